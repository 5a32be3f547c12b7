package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"mailform/server/store"
)

const delimiter = '/'

// specialUses are the attributes a client may give a mailbox it makes, RFC 6154.
var specialUses = []imap.MailboxAttr{
	imap.MailboxAttrAll, imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrFlagged,
	imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash,
}

// Create implements imapserver.Session.
func (s *session) Create(name string, o *imap.CreateOptions) error {
	// RFC 9051 6.3.4: a trailing delimiter says that others will be made below.
	name = strings.TrimSuffix(name, string(delimiter))
	var use string
	if len(o.SpecialUse) > 0 {
		use = string(o.SpecialUse[0])
		if len(o.SpecialUse) > 1 || !slices.Contains(specialUses, o.SpecialUse[0]) {
			return no("USEATTR", "The mailbox cannot have that use")
		}
	}
	_, err := s.store.CreateMailbox(s.ctx, s.account, name, use)
	return s.answer(err, imap.ResponseCodeNonExistent)
}

// Delete implements imapserver.Session.
func (s *session) Delete(name string) error {
	return s.answer(s.store.DeleteMailbox(s.ctx, s.account, name), imap.ResponseCodeNonExistent)
}

// Rename implements imapserver.Session.
func (s *session) Rename(from, to string, _ *imap.RenameOptions) error {
	to = strings.TrimSuffix(to, string(delimiter))
	return s.answer(s.store.RenameMailbox(s.ctx, s.account, from, to), imap.ResponseCodeNonExistent)
}

// Subscribe implements imapserver.Session.
func (s *session) Subscribe(name string) error {
	return s.answer(s.store.Subscribe(s.ctx, s.account, name, true), imap.ResponseCodeNonExistent)
}

// Unsubscribe implements imapserver.Session.
func (s *session) Unsubscribe(name string) error {
	return s.answer(s.store.Subscribe(s.ctx, s.account, name, false), imap.ResponseCodeNonExistent)
}

// listed is a name that LIST may show: a mailbox, a subscription to what does
// not exist, or a level above one of these.
type listed struct {
	info       store.MailboxInfo
	exists     bool
	subscribed bool
	children   bool // mailboxes below it
	// below says that something subscribed is below it that is not listed itself.
	below bool
}

// List implements imapserver.Session, for LIST and LSUB.
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, o *imap.ListOptions) error {
	if len(patterns) == 0 {
		// RFC 9051 6.3.9: an empty pattern asks for the delimiter.
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: delimiter})
	}
	names, err := s.names()
	if err != nil {
		return s.answer(err, imap.ResponseCodeNonExistent)
	}
	lsub := s.command() == "LSUB"
	match := func(name string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return matchMailbox(name, ref+p) })
	}
	if o.SelectSubscribed && (o.SelectRecursiveMatch || lsub) {
		markParents(names, match)
	}
	order := make([]string, 0, len(names))
	for name := range names {
		order = append(order, name)
	}
	slices.SortFunc(order, compareNames)
	for _, name := range order {
		l := names[name]
		switch {
		case !match(name):
			continue
		case o.SelectSubscribed && !l.subscribed && !l.below:
			continue
		case !o.SelectSubscribed && !l.exists:
			continue
		case o.SelectSpecialUse && l.info.SpecialUse == "":
			continue
		}
		data := l.data(name, o, lsub)
		if o.ReturnStatus != nil && l.exists {
			data.Status, err = s.status(l.info, o.ReturnStatus)
			if err != nil {
				return s.answer(err, imap.ResponseCodeNonExistent)
			}
		}
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

func compareNames(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == "INBOX":
		return -1
	case b == "INBOX":
		return 1
	}
	return strings.Compare(a, b)
}

// names returns all mailboxes and all subscriptions.
func (s *session) names() (map[string]*listed, error) {
	boxes, err := s.store.Mailboxes(s.ctx, s.account)
	if err != nil {
		return nil, err
	}
	subs, err := s.store.Subscriptions(s.ctx, s.account)
	if err != nil {
		return nil, err
	}
	names := make(map[string]*listed, len(boxes)+len(subs))
	for _, b := range boxes {
		names[b.Name] = &listed{info: b, exists: true, subscribed: b.Subscribed}
	}
	for _, b := range boxes {
		for _, p := range levelsAbove(b.Name) {
			if l := names[p]; l != nil {
				l.children = true
			}
		}
	}
	for _, sub := range subs {
		if names[sub] == nil {
			names[sub] = &listed{subscribed: true}
		}
	}
	return names, nil
}

// levelsAbove returns the names above a name.
func levelsAbove(name string) []string {
	var l []string
	for i, r := range name {
		if r == delimiter {
			l = append(l, name[:i])
		}
	}
	return l
}

// markParents adds the levels above subscribed names that the pattern does not
// reach: RFC 9051 6.3.9.6 RECURSIVEMATCH, and LSUB's "%", RFC 3501 6.3.9.
func markParents(names map[string]*listed, match func(string) bool) {
	var subscribed []string
	for name, l := range names {
		if l.subscribed && !match(name) {
			subscribed = append(subscribed, name)
		}
	}
	for _, name := range subscribed {
		for _, p := range levelsAbove(name) {
			if !match(p) {
				continue
			}
			if names[p] == nil {
				names[p] = &listed{}
			}
			names[p].below = true
		}
	}
}

// data is the LIST response for a name.
func (l *listed) data(name string, o *imap.ListOptions, lsub bool) *imap.ListData {
	d := &imap.ListData{Delim: delimiter, Mailbox: name}
	switch {
	case lsub && !l.subscribed:
		d.Attrs = append(d.Attrs, imap.MailboxAttrNoSelect)
	case lsub:
	case !l.exists:
		d.Attrs = append(d.Attrs, imap.MailboxAttrNonExistent)
	case l.children:
		d.Attrs = append(d.Attrs, imap.MailboxAttrHasChildren)
	default:
		d.Attrs = append(d.Attrs, imap.MailboxAttrHasNoChildren)
	}
	if l.subscribed && !lsub && (o.SelectSubscribed || o.ReturnSubscribed) {
		d.Attrs = append(d.Attrs, imap.MailboxAttrSubscribed)
	}
	if l.info.SpecialUse != "" {
		d.Attrs = append(d.Attrs, imap.MailboxAttr(l.info.SpecialUse))
	}
	if l.below && o.SelectRecursiveMatch {
		d.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
	}
	return d
}

// matchMailbox says whether a name matches a pattern, where "*" is anything and
// "%" anything on one level. It takes time in proportion to both lengths.
func matchMailbox(name, pattern string) bool {
	pattern = inboxed(pattern)
	// reach[i] says that the pattern so far matches name[:i].
	reach := make([]bool, len(name)+1)
	reach[0] = true
	for i := range len(pattern) {
		switch c := pattern[i]; c {
		case '*', '%':
			for j := range len(name) {
				if reach[j] && (c == '*' || name[j] != delimiter) {
					reach[j+1] = true
				}
			}
		default:
			for j := len(name); j > 0; j-- {
				reach[j] = reach[j-1] && name[j-1] == c
			}
			reach[0] = false
		}
	}
	return reach[len(name)]
}

// inboxed writes INBOX as a first level in upper case: it has no case, RFC 9051 5.1.
func inboxed(name string) string {
	if len(name) >= 5 && strings.EqualFold(name[:5], "INBOX") && (len(name) == 5 || name[5] == delimiter || name[5] == '*' || name[5] == '%') {
		return "INBOX" + name[5:]
	}
	return name
}

// Status implements imapserver.Session.
func (s *session) Status(name string, o *imap.StatusOptions) (*imap.StatusData, error) {
	info, err := s.info(name)
	if err != nil {
		return nil, s.answer(err, imap.ResponseCodeNonExistent)
	}
	data, err := s.status(info, o)
	return data, s.answer(err, imap.ResponseCodeNonExistent)
}

// info finds one mailbox.
func (s *session) info(name string) (store.MailboxInfo, error) {
	boxes, err := s.store.Mailboxes(s.ctx, s.account)
	if err != nil {
		return store.MailboxInfo{}, err
	}
	for _, b := range boxes {
		if b.Name == inboxed(name) {
			return b, nil
		}
	}
	return store.MailboxInfo{}, store.ErrNoMailbox
}

func (s *session) status(info store.MailboxInfo, o *imap.StatusOptions) (*imap.StatusData, error) {
	limit := s.AppendLimit()
	var recent uint32
	var deleted int64
	if o.DeletedStorage && info.Deleted > 0 {
		snap, watch, err := s.store.Open(s.ctx, s.account, info.Name)
		if err != nil {
			return nil, err
		}
		watch.Close()
		for _, m := range snap.Messages {
			if hasFlag(m, imap.FlagDeleted) {
				deleted += m.Size
			}
		}
	}
	return &imap.StatusData{
		Mailbox: info.Name, NumMessages: &info.Messages, NumRecent: &recent, UIDNext: imap.UID(info.UIDNext),
		UIDValidity: info.UIDValidity, NumUnseen: &info.Unseen, NumDeleted: &info.Deleted, Size: &info.Bytes,
		AppendLimit: &limit, DeletedStorage: &deleted, HighestModSeq: uint64(info.HighestModSeq),
	}, nil
}
