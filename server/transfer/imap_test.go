package transfer

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
)

// theirs is somebody else's IMAP server, with the manners that such have.
type theirs struct {
	caps    string
	order   []string
	attrs   map[string]string
	boxes   map[string][]string // texts; UIDs count from 1
	refuses map[string]bool     // "mailbox/uid": a fetch with it ends there, in a NO
	keeps   map[string]bool     // "mailbox/uid": is passed over in silence
	gone    map[string]bool     // "mailbox/uid": was expunged after the search
	behind  bool                // tells UIDs behind the bodies
	cut     int                 // bodies until the connection ends within one; 0 never
	bodies  int
}

func (s *theirs) client(t *testing.T) *imapclient.Client {
	t.Helper()
	here, there := net.Pipe()
	go s.serve(there)
	c := imapclient.New(here, nil)
	t.Cleanup(func() { c.Close() })
	must(t, c.WaitGreeting())
	return c
}

func (s *theirs) serve(c net.Conn) {
	defer c.Close()
	w := bufio.NewWriter(c)
	fmt.Fprintf(w, "* PREAUTH [CAPABILITY %s] ready\r\n", strings.TrimSpace("IMAP4rev1 "+s.caps))
	_ = w.Flush()
	in := bufio.NewScanner(c)
	box := ""
	for in.Scan() {
		tag, line, _ := strings.Cut(in.Text(), " ")
		status := "OK done"
		switch upper := strings.ToUpper(line); {
		case strings.HasPrefix(upper, "LIST"):
			for _, name := range s.order {
				fmt.Fprintf(w, "* LIST (%s) \"/\" \"%s\"\r\n", s.attrs[name], name)
			}
		case strings.HasPrefix(upper, "EXAMINE"):
			box = strings.Trim(line[8:], `"`)
			fmt.Fprintf(w, "* FLAGS (\\Seen)\r\n* %d EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 99] x\r\n", len(s.boxes[box]))
			status = "OK [READ-ONLY] done"
		case strings.HasPrefix(upper, "UID SEARCH"):
			fmt.Fprint(w, "* SEARCH")
			for i := range s.boxes[box] {
				fmt.Fprintf(w, " %d", i+1)
			}
			fmt.Fprint(w, "\r\n")
		case strings.HasPrefix(upper, "UID FETCH"):
			status = s.fetch(w, box, strings.Fields(upper)[2], upper)
		case strings.HasPrefix(upper, "FETCH"): // numbers are as UIDs here
			status = s.fetch(w, box, strings.Fields(upper)[1], upper)
		}
		if status == "" {
			_ = w.Flush()
			return
		}
		fmt.Fprintf(w, "%s %s\r\n", tag, status)
		if w.Flush() != nil {
			return
		}
	}
}

func (s *theirs) fetch(w *bufio.Writer, box, set, items string) string {
	for _, part := range strings.Split(set, ",") {
		from, to, _ := strings.Cut(part+":"+part, ":")
		to, _, _ = strings.Cut(to, ":")
		a, _ := strconv.Atoi(from)
		b, _ := strconv.Atoi(to)
		for uid := a; uid <= b; uid++ {
			key := fmt.Sprintf("%s/%d", box, uid)
			if uid > len(s.boxes[box]) || s.gone[key] {
				continue
			}
			text := s.boxes[box][uid-1]
			head, _, _ := strings.Cut(text, "\r\n\r\n")
			switch {
			case strings.Contains(items, "HEADER.FIELDS"):
				fmt.Fprintf(w, "* %d FETCH (UID %d RFC822.SIZE %d BODY[HEADER.FIELDS (MESSAGE-ID DATE FROM TO SUBJECT)] {%d}\r\n%s)\r\n", uid, uid, len(text), len(head), head)
			case !strings.Contains(items, "BODY"):
				fmt.Fprintf(w, "* %d FETCH (UID %d FLAGS ())\r\n", uid, uid)
			case s.refuses[key]:
				return "NO [SERVERBUG] cannot read it"
			case s.keeps[key]:
			default:
				if s.bodies++; s.bodies == s.cut {
					fmt.Fprintf(w, "* %d FETCH (UID %d BODY[] {%d}\r\n%s", uid, uid, len(text), text[:len(text)/2])
					return ""
				}
				before, behind := fmt.Sprintf("UID %d ", uid), ""
				if s.behind {
					before, behind = "", fmt.Sprintf(" UID %d", uid)
				}
				// And what was not asked for.
				fmt.Fprintf(w, "* %d FETCH (%sFLAGS (\\Seen $x) BODY[] {%d}\r\n%s INTERNALDATE \"02-Jan-2020 03:04:05 +0000\"%s)\r\n* %d FETCH (FLAGS (\\Seen))\r\n", uid, before, len(text), text, behind, uid)
			}
		}
	}
	return "OK done"
}

func letter(n int) string {
	return fmt.Sprintf("Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\n%d\r\n", n, n, n)
}

func arrived(n int) string { return fmt.Sprintf(`2020-01-02 03:04:05 $x,\Seen %q`, letter(n)) }

// One message that a server cannot read keeps none of the others, and is named.
func TestIMAPThatRefuses(t *testing.T) {
	t.Parallel()
	server := &theirs{
		order: []string{"INBOX", "Noselect"}, attrs: map[string]string{"Noselect": `\Noselect`},
		boxes:   map[string][]string{"INBOX": {letter(1), letter(2), letter(3), letter(4), letter(5)}},
		refuses: map[string]bool{"INBOX/2": true}, keeps: map[string]bool{"INBOX/4": true}, gone: map[string]bool{"INBOX/5": true},
	}
	s := open(t)
	var warned []string
	c, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), IMAP{Client: server.client(t), Host: "h", User: "u", Warn: func(text string) { warned = append(warned, text) }})
	must(t, err)
	same(t, content(t, s), map[string][]string{"INBOX": {arrived(1), arrived(3)}})
	if c.Imported != 2 || c.Failed != 2 || len(warned) != 2 {
		t.Errorf("%+v, said %q", c, warned)
	}
	// Mended, the rest comes.
	server.refuses, server.keeps, server.gone = nil, nil, nil
	c, err = (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), IMAP{Client: server.client(t), Host: "h", User: "u"})
	must(t, err)
	if c.Imported != 3 || c.Present != 2 || c.Failed != 0 {
		t.Errorf("the second time: %+v", c)
	}
}

// A server may tell a message's UID behind its body, RFC 9051 7.5.2.
func TestIMAPUIDBehind(t *testing.T) {
	t.Parallel()
	server := &theirs{order: []string{"INBOX"}, behind: true, boxes: map[string][]string{}, keeps: map[string]bool{"INBOX/3": true}, gone: map[string]bool{"INBOX/4": true}}
	want := []string{}
	for i := range atOnce + 10 {
		server.boxes["INBOX"] = append(server.boxes["INBOX"], letter(i+1))
		if i != 2 && i != 3 {
			want = append(want, arrived(i+1))
		}
	}
	s := open(t)
	c, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), IMAP{Client: server.client(t), Host: "h", User: "u"})
	must(t, err)
	got := content(t, s)
	slices.Sort(got["INBOX"])
	slices.Sort(want)
	same(t, got, map[string][]string{"INBOX": want})
	if c.Failed != 1 || server.bodies > 2*len(want) {
		t.Errorf("%+v, with %d bodies sent", c, server.bodies)
	}
}

// Gmail shows each message in "All Mail" again; those that are nowhere else were archived.
func TestIMAPAllMail(t *testing.T) {
	t.Parallel()
	server := &theirs{
		caps:  "SPECIAL-USE",
		order: []string{"[Gmail]/All Mail", "[Gmail]/Important", "[Gmail]/Starred", "[Gmail]/Sent Mail", "INBOX", "Work", "[Gmail]"},
		attrs: map[string]string{"[Gmail]": `\Noselect`, "[Gmail]/All Mail": `\All`, "[Gmail]/Starred": `\Flagged`, "[Gmail]/Important": `\Important`, "[Gmail]/Sent Mail": `\Sent`},
		boxes: map[string][]string{
			"INBOX": {letter(1), letter(2)}, "Work": {letter(2)}, "[Gmail]/Sent Mail": {letter(3)}, "[Gmail]/Starred": {letter(4)}, "[Gmail]/Important": {letter(1)},
			"[Gmail]/All Mail": {letter(1), letter(2), letter(3), letter(4), letter(5)},
		},
	}
	s := open(t)
	for i, want := range []int{6, 0} {
		var warned []string
		c, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), IMAP{Client: server.client(t), Host: "h", User: "u", Warn: func(text string) { warned = append(warned, text) }})
		must(t, err)
		if c.Imported != want || c.Present != 6-want || len(warned) != 3 {
			t.Errorf("run %d: %+v, said %q", i+1, c, warned)
		}
	}
	same(t, content(t, s), map[string][]string{"INBOX": {arrived(1), arrived(2)}, "Work": {arrived(2)}, "Sent": {arrived(3)}, "Archive": {arrived(4), arrived(5)}})
}

// A connection that ends in the middle of a message is known as that, wherever it does.
func TestIMAPBreaks(t *testing.T) {
	t.Parallel()
	s := open(t)
	server := &theirs{order: []string{"INBOX"}, boxes: map[string][]string{"INBOX": {letter(1), letter(2), letter(3)}}}
	for _, cut := range []int{1, 3} {
		server.cut, server.bodies = cut, 0
		_, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), IMAP{Client: server.client(t), Host: "h", User: "u"})
		var broken *BrokenError
		if !errors.As(err, &broken) {
			t.Errorf("cut in body %d: %v", cut, err)
		}
	}
	server.cut = 0
	_, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), IMAP{Client: server.client(t), Host: "h", User: "u"})
	must(t, err)
	got := content(t, s)
	for _, list := range got {
		slices.Sort(list)
	}
	same(t, got, map[string][]string{"INBOX": {arrived(1), arrived(2), arrived(3)}})
}
