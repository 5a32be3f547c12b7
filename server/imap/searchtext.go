package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/mimetree"
	"mailform/server/search"
	"mailform/server/store"
)

// What the index says of the texts of one search is in memory until it is done: in a
// mailbox of a million messages 250 KB for each.
const maxHits = 32 << 20

var errManyTexts = no(imap.ResponseCodeLimit, "These are too many texts to look for at once in so many messages")

// indexed is what the search index says of one key.
type indexed struct {
	asked uint64 // the query that asked last
	hits  *search.Hits
}

// ask looks a text up, once for each query, and says what is known of a message. Without an
// index every message is read.
func (x *indexed) ask(q *query, fields search.Field, text string, m *store.Message) search.Verdict {
	if x.asked != q.id {
		x.asked, x.hits = q.id, nil
		if find := q.s.srv.cfg.Find; find != nil && text != "" {
			hits, err := find(q.s.account, fields, text)
			if err != nil {
				q.s.log.Warn("search: without the index", "err", err)
			} else {
				x.hits = hits
				q.hits = append(q.hits, hits)
				if q.held += hits.Size(); q.held > q.s.srv.cfg.maxHits {
					q.failed = errManyTexts
				}
			}
		}
	}
	if x.hits == nil {
		return search.Maybe
	}
	return x.hits.Of(m.Body)
}

// headerKey looks for text in the fields of a name; "" matches any field.
type headerKey struct {
	name, value string
	addresses   bool         // also as they are without comments and folding
	field       search.Field // 0: one that the index does not tell from others
	indexed
}

func newHeaderKey(name, value string) *headerKey {
	k := &headerKey{name: name, value: value}
	switch strings.ToUpper(name) {
	case "FROM":
		k.field = search.From
	case "TO":
		k.field = search.To
	case "CC":
		k.field = search.Cc
	case "BCC":
		k.field = search.Bcc
	case "SUBJECT":
		k.field = search.Subject
	}
	return k
}

func (k *headerKey) match(q *query, i int, m *store.Message) (bool, error) {
	if k.field != 0 {
		if v := k.ask(q, k.field, k.value, m); v != search.Maybe {
			return v == search.Yes, nil
		}
	}
	c, err := q.content(i, m)
	if err != nil {
		return false, err
	}
	h, err := c.header()
	if err != nil {
		return false, err
	}
	for _, v := range h.Values(k.name) {
		if search.Within(casemap(mimetree.DecodeWords(v)), k.value) {
			return true, nil
		}
		if !k.addresses {
			continue
		}
		for _, a := range mimetree.ParseAddresses(v) {
			plain := mimetree.DecodeWords(a.Name) + " <" + a.Mailbox + "@" + a.Host + ">"
			if search.Within(casemap(plain), k.value) {
				return true, nil
			}
		}
	}
	return false, nil
}

func (*headerKey) cost() int { return costHeader }

// textKey looks for text in what is shown of a message, and with headers in the
// headers of all its parts.
type textKey struct {
	needle  string
	headers bool
	indexed
}

func (*textKey) cost() int { return costBody }

func (k *textKey) match(q *query, i int, m *store.Message) (bool, error) {
	if k.needle == "" {
		return true, nil
	}
	fields := search.Body
	if k.headers {
		fields = search.All
	}
	if v := k.ask(q, fields, k.needle, m); v != search.Maybe {
		return v == search.Yes, nil
	}
	c, err := q.content(i, m)
	if err != nil {
		return false, err
	}
	return search.Contains(c.reader(mimetree.Span{End: c.size}), fields, k.needle)
}
