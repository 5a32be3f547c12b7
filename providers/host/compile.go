package host

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"mailform/plan"
)

// Kinds of operation.
const (
	opConnect    = "host.Connect"
	opInstall    = "host.Install"
	opMount      = "host.Mount"
	opKeys       = "host.Keys"
	opConverge   = "host.Converge"
	opVerify     = "host.Verify"
	opRetireKeys = "host.RetireKeys"
	opRemove     = "host.Remove"
)

// Compile implements plan.Provider. Per host there is at most one operation of
// each kind, and one Converge carries the whole manifest: what does not change
// or may not change goes into it as it is.
func (p *Provider) Compile(changes []plan.Change) []plan.Op {
	byHost := map[string]*hostChanges{}
	at := func(host string) *hostChanges {
		if byHost[host] == nil {
			byHost[host] = &hostChanges{host: host}
		}
		return byHost[host]
	}
	for _, c := range changes {
		segments := c.Address.Segments()
		switch c.Kind {
		case kindAgent:
			at(segments[1]).agent = &c
		case kindServer:
			at(segments[1]).server = &c
		case kindHostKey:
			at(segments[1]).hostKey = &c
		default:
			is, was := effective(c)["host"].Str(), c.Before["host"].Str()
			if is != "" {
				h := at(is)
				h.things = append(h.things, c)
			}
			// A thing that leaves a host is that host's business too.
			if was != "" && was != is {
				h := at(was)
				h.leaving = append(h.leaving, c)
			}
		}
	}
	hosts := make([]string, 0, len(byHost))
	for h := range byHost {
		hosts = append(hosts, h)
	}
	sort.Strings(hosts)
	var ops []plan.Op
	for _, h := range hosts {
		ops = append(ops, byHost[h].compile(p.DeleteMail)...)
	}
	return ops
}

// effective is what will be there when everything that may be done is done; nil
// for nothing.
func effective(c plan.Change) plan.Attrs {
	switch {
	case c.Blocked != nil:
		return c.Before
	case c.Action == plan.Delete:
		return nil
	}
	return c.After
}

// hostChanges are all changes of one host.
type hostChanges struct {
	host    string
	agent   *plan.Change
	server  *plan.Change
	hostKey *plan.Change
	things  []plan.Change // that will be on it
	leaving []plan.Change // that were on it
}

func (h *hostChanges) compile(deleteMail bool) []plan.Op {
	switch {
	case h.agent == nil || h.agent.Blocked != nil:
		return nil // nothing can be done there
	case h.agent.Action == plan.Delete:
		return h.remove(deleteMail)
	}
	var ops []plan.Op
	add := func(op plan.Op) {
		op.Provider = Name
		op.ID = op.Kind + " " + string(op.Addresses[0])
		if op.Inputs == nil {
			op.Inputs = plan.Attrs{}
		}
		op.Inputs["target"] = targetInput(h.host, h.agent.After)
		if n := len(ops); n > 0 {
			op.After = []string{ops[n-1].ID}
		}
		slices.Sort(op.Addresses[1:])
		ops = append(ops, op)
	}
	if h.agent.Pending() {
		if h.agent.Action == plan.Create || h.agent.Action == plan.Replace {
			add(plan.Op{Kind: opConnect, Title: "wait for SSH on " + h.host, Addresses: []plan.Address{h.agent.Address}, ReadOnly: true, Seconds: 30})
		}
		add(plan.Op{Kind: opInstall, Title: "install mailformd on " + h.host, Addresses: []plan.Address{h.agent.Address}, Seconds: 10})
	}
	if disk := h.mounting(); disk != nil {
		// Who waits for the agent waits for the keys that the disk brings, too.
		add(plan.Op{Kind: opMount, Title: "mount the data disk of " + h.host, Addresses: []plan.Address{disk.Address, h.agent.Address},
			Inputs: plan.Attrs{"serial": disk.After["serial"]}, Seconds: 5})
	}
	for _, op := range h.hostKeyOps() {
		add(op)
	}
	if keys, addrs := h.keys(h.things, func(c plan.Change) bool { return true }); len(addrs) > 0 {
		add(plan.Op{Kind: opKeys, Title: "make " + counted(len(addrs), "signing key", "signing keys") + " on " + h.host, Addresses: addrs,
			Inputs: plan.Attrs{"keys": keys}, Seconds: 2})
	}
	if addrs := h.converging(); len(addrs) > 0 {
		inputs := plan.Attrs{"manifest": h.manifest()}
		if take := h.taking(); len(take.Items()) > 0 {
			inputs["take"] = take
		}
		if keys, insist := h.hurried(); len(keys) > 0 {
			inputs["records"], inputs["insist"] = plan.List(keys...), plan.Bool(insist)
		}
		add(plan.Op{Kind: opConverge, Title: "configure the mail server on " + h.host, Addresses: addrs, Inputs: inputs, Seconds: 5})
		if h.server.Pending() {
			add(plan.Op{Kind: opVerify, Title: "check that " + h.host + " serves mail", Addresses: []plan.Address{h.server.Address}, ReadOnly: true,
				Inputs: expectedInputs(h.server.After), Seconds: 3})
		}
	}
	if keys, addrs := h.keys(h.leaving, func(c plan.Change) bool { return c.Action == plan.Delete }); len(addrs) > 0 {
		add(plan.Op{Kind: opRetireKeys, Title: "delete " + counted(len(addrs), "signing key", "signing keys") + " on " + h.host, Addresses: addrs,
			Inputs: plan.Attrs{"keys": keys}, Seconds: 1})
	}
	return ops
}

// mounting is the data disk that has to be there before anything is asked for on this
// host: on a machine that is new, or when another disk takes the place of one that is
// gone. A disk that is added to a host which serves comes with the server's settings.
func (h *hostChanges) mounting() *plan.Change {
	i := slices.IndexFunc(h.things, func(c plan.Change) bool { return c.Kind == kindStorage && c.Blocked == nil })
	if i < 0 || h.server == nil || h.server.Blocked != nil {
		return nil
	}
	made := func(c plan.Change) bool { return c.Action == plan.Create || c.Action == plan.Replace }
	disk := &h.things[i]
	if made(*h.agent) || disk.Pending() && (made(*h.server) || disk.Action == plan.Replace) {
		return disk
	}
	return nil
}

// remove takes mailform off a machine that was there before. One that mailform
// made is deleted as a whole.
func (h *hostChanges) remove(deleteMail bool) []plan.Op {
	if h.agent.Before["machine"].Str() != machineExisting {
		return nil
	}
	addrs := []plan.Address{h.agent.Address}
	for _, c := range append(slices.Clone(h.leaving), deref(h.server)...) {
		if c.Pending() && c.Action == plan.Delete {
			addrs = append(addrs, c.Address)
		}
	}
	slices.Sort(addrs[1:])
	inputs, mail := plan.Attrs{"target": targetInput(h.host, h.agent.Before)}, ", its mail is kept"
	if deleteMail {
		inputs["delete_mail"], mail = plan.Bool(true), ", and delete its mail"
	}
	return []plan.Op{{
		ID: opRemove + " " + string(h.agent.Address), Provider: Name, Kind: opRemove, Title: "take mailform off " + h.host + mail,
		Addresses: addrs, Inputs: inputs, Seconds: 5,
	}}
}

func deref(c *plan.Change) []plan.Change {
	if c == nil {
		return nil
	}
	return []plan.Change{*c}
}

// keys lists the pending signing keys among some changes.
func (h *hostChanges) keys(changes []plan.Change, which func(plan.Change) bool) (plan.Value, []plan.Address) {
	var addrs []plan.Address
	var keys []plan.Value
	for _, c := range changes {
		if c.Kind != kindKey || !c.Pending() || !which(c) {
			continue
		}
		attrs := c.After
		if attrs == nil {
			attrs = c.Before
		}
		s := c.Address.Segments()
		addrs = append(addrs, c.Address)
		keys = append(keys, plan.Map(map[string]plan.Value{
			"domain": plan.String(s[1]), "selector": plan.String(s[2]), "algorithm": attrs["algorithm"],
			"replace": plan.Bool(c.Action == plan.Replace),
		}))
	}
	return plan.List(keys...), addrs
}

// hurried are the records of keys that are to sign as soon as they are seen, and
// whether another key goes on to sign when they are not.
func (h *hostChanges) hurried() (out []plan.Value, insist bool) {
	for _, c := range h.things {
		if c.Kind != kindKey || c.Blocked != nil || c.After["at_once"].Str() == "" {
			continue
		}
		insist = insist || c.After["at_once"].Str() == onceRush
		seg := c.Address.Segments()
		text := plan.Unknown(c.Address, "txt")
		if known, ok := c.Outputs["txt"]; ok {
			text = known
		}
		out = append(out, plan.Map(map[string]plan.Value{"name": plan.String(seg[2] + "._domainkey." + seg[1]), "text": text}))
	}
	return out, insist
}

// converging are the addresses that a Converge brings about: the server first,
// when it changes.
func (h *hostChanges) converging() []plan.Address {
	if h.server == nil || effective(*h.server) == nil {
		return nil
	}
	var addrs []plan.Address
	for _, c := range h.things {
		if c.Pending() && c.Kind != kindKey {
			addrs = append(addrs, c.Address)
		}
	}
	for _, c := range h.leaving {
		// What moves to another host is done when it is there.
		if c.Pending() && c.Kind != kindKey && c.Action == plan.Delete {
			addrs = append(addrs, c.Address)
		}
	}
	slices.Sort(addrs)
	if h.server.Pending() {
		addrs = append([]plan.Address{h.server.Address}, addrs...)
	}
	return addrs
}

// manifest is what the host is to serve, as a value: see convergeRequest.
func (h *hostChanges) manifest() plan.Value {
	server := effective(*h.server)
	type domain struct {
		settings           plan.Value
		mailboxes, aliases []plan.Value
	}
	domains := map[string]*domain{}
	catchAll := map[string]plan.Value{}
	dataDisk := plan.Null()
	at := func(name string) *domain {
		if domains[name] == nil {
			domains[name] = &domain{}
		}
		return domains[name]
	}
	for _, name := range server["domains"].FieldNames() {
		at(name).settings = server["domains"].Field(name)
	}
	for _, c := range h.things {
		attrs := effective(c)
		local, name, _ := cutLast(c.Address.Segments()[1], "@")
		switch c.Kind {
		case kindMailbox:
			d := at(name)
			d.mailboxes = append(d.mailboxes, withLocal(local, attrs))
		case kindAlias:
			d := at(name)
			d.aliases = append(d.aliases, withLocal(local, attrs))
		case kindCatchAll:
			name = c.Address.Segments()[1]
			at(name)
			catchAll[name] = attrs["mailbox"]
		case kindStorage:
			dataDisk = attrs["serial"]
		}
	}
	names := make([]string, 0, len(domains))
	for n := range domains {
		names = append(names, n)
	}
	sort.Strings(names)
	list := make([]plan.Value, 0, len(names))
	for _, n := range names {
		d := domains[n]
		fields := map[string]plan.Value{
			"name": plan.String(n), "mailboxes": plan.List(d.mailboxes...), "aliases": plan.List(d.aliases...), "catch_all": catchAll[n],
		}
		for _, f := range d.settings.FieldNames() {
			fields[f] = d.settings.Field(f)
		}
		list = append(list, plan.Map(fields))
	}
	fields := map[string]plan.Value{"domains": plan.List(list...), "data_disk": dataDisk}
	for _, name := range server.Names() {
		if name != "domains" && name != "version" && name != "drift" {
			fields[name] = server[name]
		}
	}
	return plan.Map(fields)
}

func withLocal(local string, attrs plan.Attrs) plan.Value {
	fields := map[string]plan.Value{"local": plan.String(local)}
	for k, v := range attrs {
		if k != "host" {
			fields[k] = v
		}
	}
	return plan.Map(fields)
}

// cutLast cuts around the last sep: a local part may hold an @ in quotes.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// inputError says that an operation's inputs are not what Compile makes: a plan
// file of another version, or a journal that was changed.
func inputError(op plan.Op, what string) error {
	return &plan.Error{Class: plan.ErrStale, Code: "MF5419", Step: op.Title, Got: fmt.Sprintf("operation %s has no %s", op.ID, what), Fix: "Plan again."}
}
