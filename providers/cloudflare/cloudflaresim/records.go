package cloudflaresim

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// fields is a record in a request. Absent fields are nil.
type fields struct {
	ID       *string         `json:"id"`
	Name     *string         `json:"name"`
	Type     *string         `json:"type"`
	Content  *string         `json:"content"`
	TTL      *float64        `json:"ttl"`
	Priority *float64        `json:"priority"`
	Proxied  *bool           `json:"proxied"`
	Comment  *string         `json:"comment"`
	Data     json.RawMessage `json:"data"`
}

// onto changes the given fields of a record.
func (f fields) onto(r *Record, zone string) {
	if f.Name != nil {
		r.Name = fullName(*f.Name, zone)
	}
	if f.Type != nil {
		r.Type = strings.ToUpper(*f.Type)
	}
	if f.Content != nil {
		r.Content = *f.Content
	}
	if f.TTL != nil {
		r.TTL = int(*f.TTL)
	}
	if f.Priority != nil {
		p := int(*f.Priority)
		r.Priority = &p
	}
	if f.Proxied != nil {
		r.Proxied = *f.Proxied
	}
	if f.Comment != nil {
		r.Comment = *f.Comment
	}
	if len(f.Data) > 0 && string(f.Data) != "null" {
		r.Data = f.Data
	}
}

// fullName completes a name the vendor's way: "@" is the zone, and what does not
// end in the zone's name is taken as relative to it.
func fullName(name, zone string) string {
	name = ascii(name)
	switch {
	case name == "@" || name == "":
		return zone
	case name == zone || strings.HasSuffix(name, "."+zone):
		return name
	}
	return name + "." + zone
}

// wire is a record as the API returns it.
func (r *Record) wire() map[string]any {
	out := map[string]any{
		"id": r.ID, "name": r.Name, "type": r.Type, "content": r.Content, "ttl": r.TTL,
		"proxied": r.Proxied, "proxiable": proxiable(r.Type), "settings": map[string]any{}, "meta": map[string]any{},
		"tags": []string{}, "comment": nil, // null when absent, whatever the schema says
		"created_on": r.Created.UTC().Format(timestampForm), "modified_on": r.Modified.UTC().Format(timestampForm),
	}
	if r.Comment != "" {
		out["comment"] = r.Comment
		out["comment_modified_on"] = r.Modified.UTC().Format(timestampForm)
	}
	if r.Priority != nil {
		out["priority"] = *r.Priority
	}
	if len(r.Data) > 0 {
		out["data"] = r.Data
	}
	return out
}

func (s *Server) listRecords(r *request, z *zoneState) (any, *resultInfo, *failure) {
	q := r.URL.Query()
	page, size, f := paging(q.Get("page"), q.Get("per_page"), defaultPage, maxPage)
	if f != nil {
		return nil, nil, f
	}
	filters := map[string]func(*Record) string{
		"name": func(r *Record) string { return r.Name }, "content": func(r *Record) string { return r.Content },
		"comment": func(r *Record) string { return r.Comment }, "type": func(r *Record) string { return r.Type },
	}
	var found []any
	for _, rec := range z.visible(s.now()) {
		match := true
		for key, values := range q {
			field, op, _ := strings.Cut(key, ".")
			get := filters[field]
			if get == nil || len(values) == 0 {
				continue
			}
			have, want := strings.ToLower(get(rec)), strings.ToLower(values[0])
			switch op {
			case "", "exact":
				match = match && have == want
			case "contains":
				match = match && strings.Contains(have, want)
			case "startswith":
				match = match && strings.HasPrefix(have, want)
			case "endswith":
				match = match && strings.HasSuffix(have, want)
			case "present":
				match = match && have != ""
			case "absent":
				match = match && have == ""
			}
		}
		if match {
			found = append(found, rec.wire())
		}
	}
	shown, info := cut(found, page, size)
	return shown, info, nil
}

func (s *Server) getRecord(r *request, z *zoneState) (any, *resultInfo, *failure) {
	for _, rec := range z.visible(s.now()) {
		if rec.ID == r.PathValue("record") {
			return rec.wire(), nil, nil
		}
	}
	return nil, nil, noSuchRecord()
}

func (s *Server) createRecord(r *request, z *zoneState) (any, *resultInfo, *failure) {
	var in fields
	if f := decode(r.body, &in); f != nil {
		return nil, nil, f
	}
	rec, f := s.post(z, in)
	if f != nil {
		return nil, nil, f
	}
	return rec.wire(), nil, nil
}

func (s *Server) putRecord(r *request, z *zoneState) (any, *resultInfo, *failure) {
	return s.change(r, z, s.put)
}

func (s *Server) patchRecord(r *request, z *zoneState) (any, *resultInfo, *failure) {
	return s.change(r, z, s.patch)
}

func (s *Server) change(r *request, z *zoneState, do func(*zoneState, string, fields) (*Record, *failure)) (any, *resultInfo, *failure) {
	var in fields
	if f := decode(r.body, &in); f != nil {
		return nil, nil, f
	}
	rec, f := do(z, r.PathValue("record"), in)
	if f != nil {
		return nil, nil, f
	}
	return rec.wire(), nil, nil
}

func (s *Server) deleteRecord(r *request, z *zoneState) (any, *resultInfo, *failure) {
	rec, f := z.remove(r.PathValue("record"))
	if f != nil {
		return nil, nil, f
	}
	return map[string]any{"id": rec.ID}, nil, nil
}

// batchLimit is how many operations a batch may hold on the zone's plan.
func (z *zoneState) batchLimit() int {
	switch z.Plan {
	case "pro", "business", "enterprise":
		return 3500
	}
	return 200
}

// batch executes deletes, patches, puts and posts in this order, all or nothing.
// Its error does not say which of them failed.
func (s *Server) batch(r *request, z *zoneState) (any, *resultInfo, *failure) {
	var in struct {
		Deletes []fields `json:"deletes"`
		Patches []fields `json:"patches"`
		Puts    []fields `json:"puts"`
		Posts   []fields `json:"posts"`
	}
	if f := decode(r.body, &in); f != nil {
		return nil, nil, f
	}
	n := len(in.Deletes) + len(in.Patches) + len(in.Puts) + len(in.Posts)
	if n == 0 {
		return nil, nil, fail(http.StatusBadRequest, 1004, "DNS Validation Error", message{Code: 9999, Message: "The batch is empty."})
	}
	if n > cmp.Or(s.cfg.BatchLimit, z.batchLimit()) {
		return nil, nil, fail(http.StatusBadRequest, 1004, "DNS Validation Error", message{Code: 9999, Message: "The batch has too many operations."})
	}
	trial := z.clone()
	out := map[string][]any{"deletes": {}, "patches": {}, "puts": {}, "posts": {}}
	for _, step := range []struct {
		name string
		list []fields
		do   func(fields) (*Record, *failure)
	}{
		{"deletes", in.Deletes, func(f fields) (*Record, *failure) { return trial.remove(text(f.ID)) }},
		{"patches", in.Patches, func(f fields) (*Record, *failure) { return s.patch(trial, text(f.ID), f) }},
		{"puts", in.Puts, func(f fields) (*Record, *failure) { return s.put(trial, text(f.ID), f) }},
		{"posts", in.Posts, func(f fields) (*Record, *failure) { return s.post(trial, f) }},
	} {
		for _, f := range step.list {
			rec, failed := step.do(f)
			if failed != nil {
				return nil, nil, failed
			}
			out[step.name] = append(out[step.name], rec.wire())
		}
	}
	z.records = trial.records
	return out, nil, nil
}

func (s *Server) post(z *zoneState, in fields) (*Record, *failure) {
	if s.cfg.RecordQuota >= 0 && len(z.records) >= s.cfg.RecordQuota {
		return nil, fail(http.StatusBadRequest, 81045, "Record quota exceeded.")
	}
	if in.Name == nil || in.Type == nil {
		return nil, invalid(9000, "DNS name and type are required.")
	}
	rec := &Record{TTL: 1, Created: s.now(), Modified: s.now()}
	in.onto(rec, z.Name)
	if f := z.admit(rec); f != nil {
		return nil, f
	}
	rec.ID = s.newID("record")
	z.records = append(z.records, rec)
	return rec, nil
}

func (s *Server) put(z *zoneState, id string, in fields) (*Record, *failure) {
	old := z.find(id)
	if old == nil {
		return nil, noSuchRecord()
	}
	if in.Name == nil || in.Type == nil {
		return nil, invalid(9000, "DNS name and type are required.")
	}
	return s.rewrite(z, old, &Record{ID: id, TTL: 1, Created: old.Created}, in)
}

// patch changes a record. Like the published schema, and unlike its prose, it
// wants name, type and ttl every time.
func (s *Server) patch(z *zoneState, id string, in fields) (*Record, *failure) {
	old := z.find(id)
	if old == nil {
		return nil, noSuchRecord()
	}
	if in.Name == nil || in.Type == nil || in.TTL == nil {
		return nil, invalid(9000, "DNS name, type and ttl are required.")
	}
	changed := *old
	return s.rewrite(z, old, &changed, in)
}

func (s *Server) rewrite(z *zoneState, old, changed *Record, in fields) (*Record, *failure) {
	in.onto(changed, z.Name)
	changed.Modified = s.now()
	if f := z.admit(changed); f != nil {
		return nil, f
	}
	*old = *changed
	return old, nil
}

func (z *zoneState) remove(id string) (*Record, *failure) {
	i := slices.IndexFunc(z.records, func(r *Record) bool { return r.ID == id })
	if i < 0 {
		return nil, noSuchRecord()
	}
	rec := z.records[i]
	z.records = slices.Delete(z.records, i, i+1)
	return rec, nil
}

func noSuchRecord() *failure {
	return fail(http.StatusNotFound, 81044, "Record does not exist.")
}

func decode(body []byte, into any) *failure {
	if err := json.Unmarshal(body, into); err != nil {
		return fail(http.StatusBadRequest, 9207, "Failed to parse request body: "+err.Error())
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
