package imap

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailform/server/account"
)

// capabilities returns what is offered in the session's state, RFC 9051 6.1.1.
func (s *session) capabilities() string {
	l := []imap.Cap{imap.CapIMAP4rev1, imap.CapIMAP4rev2, imap.CapLiteralPlus, imap.CapID, imap.CapSASLIR, imap.CapEnable}
	if s.account == "" {
		if s.c.canStartTLS() {
			l = append(l, imap.CapStartTLS)
		}
		if s.c.mayLogIn() {
			for _, name := range account.Mechanisms(s.c.showsSCRAM(), s.c.secure) {
				l = append(l, imap.AuthCap(name))
			}
		} else {
			l = append(l, imap.CapLoginDisabled)
		}
	} else {
		l = append(l, afterLogin()...)
		l = append(l, imap.Cap("APPENDLIMIT="+strconv.FormatInt(s.c.st.MaxMessageBytes, 10)))
		if s.c.deflated == nil {
			l = append(l, "COMPRESS=DEFLATE")
		}
	}
	names := make([]string, len(l))
	for i, c := range l {
		names[i] = string(c)
	}
	return "CAPABILITY " + strings.Join(names, " ")
}

// afterLogin lists what needs an account.
func afterLogin() []imap.Cap {
	return []imap.Cap{
		imap.CapIdle, "NOTIFY", imap.CapNamespace, imap.CapChildren, imap.CapUnselect, imap.CapUIDPlus, imap.CapMove,
		imap.CapListExtended, imap.CapListStatus, imap.CapStatusSize, imap.CapSpecialUse, imap.CapCreateSpecialUse,
		imap.CapESearch, imap.CapSearchRes, "CONTEXT=SEARCH", "I18NLEVEL=1", imap.CapWithin, imap.CapCondStore, imap.CapQResync, imap.CapBinary,
		imap.CapMultiAppend, imap.CapReplace, imap.CapUTF8Accept,
		imap.CapSort, imap.CapSortDisplay, imap.CapESort, "THREAD=REFERENCES", "THREAD=REFS", "THREAD=ORDEREDSUBJECT",
		imap.CapMetadata, imap.CapInProgress, imap.CapObjectID, imap.CapSaveDate, imap.CapPreview, "PREVIEW=FUZZY", "SNIPPET=FUZZY", "PARTIAL", imap.CapUnauthenticate, imap.CapQuota, "QUOTA=RES-STORAGE", "QUOTA=RES-MESSAGE",
	}
}

func (s *session) greet() {
	s.untaggedOK(s.capabilities(), s.c.st.Hostname+" is ready")
}

func (s *session) capability(cmd *command) error {
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	s.out.Raw("* ")
	s.out.Raw(s.capabilities())
	s.out.CRLF()
	return nil
}

func (s *session) noop(cmd *command) error {
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	return nil
}

func (s *session) logout(cmd *command) error {
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	s.unselect()
	s.out.Raw("* BYE Logging out\r\n")
	s.over = true
	return nil
}

// id implements RFC 2971, which clients also send before the login.
func (s *session) id(cmd *command) error {
	p := cmd.p
	p.SP()
	var fields []string
	if p.Peek() == '(' {
		p.List(func() {
			key := p.String()
			p.SP()
			value, _ := p.NString()
			if len(fields) < 20 { // RFC 2971 3.3 allows 30 pairs
				fields = append(fields, key, value)
			}
		})
	} else {
		p.NString()
	}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	if len(fields) > 0 {
		s.log.Debug("client", "id", fields)
	}
	s.out.Raw("* ID (\"name\" \"mailform\")\r\n")
	return nil
}

// enable implements RFC 5161 and RFC 9051 6.3.1.
func (s *session) enable(cmd *command) error {
	var on []string
	for cmd.p.More() {
		name := cmd.p.Word()
		var flag *bool
		switch imap.Cap(name) {
		case imap.CapCondStore:
			flag = &s.enabled.condstore
		case imap.CapQResync:
			flag = &s.enabled.qresync
		case imap.CapUTF8Accept:
			flag = &s.enabled.utf8
		case "IMAP4REV2":
			flag, name = &s.enabled.rev2, "IMAP4rev2"
		default:
			continue
		}
		if !*flag && !slices.Contains(on, name) {
			on = append(on, name)
		}
		*flag = true
	}
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	s.out.Raw("* ENABLED")
	for _, name := range on {
		s.out.Raw(" ")
		s.out.Raw(name)
	}
	s.out.CRLF()
	if slices.Contains(on, string(imap.CapQResync)) || slices.Contains(on, string(imap.CapCondStore)) {
		s.enabled.condstore = false
		s.useCondStore()
	}
	s.contexts.again = s.contexts.again || slices.Contains(on, "IMAP4rev2") // nothing is recent then
	s.enabled.utf8 = s.enabled.utf8 || s.enabled.rev2
	s.out.UTF8 = s.enabled.utf8
	return nil
}

// useCondStore is called by every command that says that the client knows of
// modification sequences, RFC 7162 3.1.
func (s *session) useCondStore() {
	if s.enabled.condstore {
		return
	}
	s.enabled.condstore = true
	if s.view != nil {
		s.tellModSeq()
	}
}

// namespace implements RFC 2342: there is one, the user's own.
func (s *session) namespace(cmd *command) error {
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	s.out.Raw("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n")
	return nil
}

// unauthenticate implements RFC 8437: the connection is as before the login,
// but for TLS and compression.
func (s *session) unauthenticate(cmd *command) error {
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	s.unselect()
	s.forgetNotify()
	s.srv.leave(s.account)
	s.log.Info("logged out", "duration", time.Since(s.opened).Round(time.Millisecond))
	s.account, s.enabled, s.log = "", enabled{}, s.c.log
	s.out.UTF8 = false
	s.c.restart()
	return nil
}
