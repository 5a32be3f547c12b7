package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/store"
)

// report is a parsed notice.
type report struct {
	header     mail.Header
	text       string
	status     []textproto.MIMEHeader // the message's fields, then each recipient's
	returned   string
	returnedAs string
}

func parseReport(t *testing.T, message string) report {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("content type %s %v (%v)", kind, params, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	r := report{header: m.Header}
	for i := 0; ; i++ {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return r
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			r.text = string(body)
		case 1:
			if p.Header.Get("Content-Type") != "message/delivery-status" {
				t.Errorf("second part is %s", p.Header.Get("Content-Type"))
			}
			for block := range strings.SplitSeq(strings.TrimSpace(string(body)), "\r\n\r\n") {
				h, err := textproto.NewReader(bufioReader(block + "\r\n\r\n")).ReadMIMEHeader()
				if err != nil {
					t.Fatal(err)
				}
				r.status = append(r.status, h)
			}
		case 2:
			r.returned, r.returnedAs = string(body), p.Header.Get("Content-Type")
		}
	}
}

func TestPermanentFailureIsReturned(t *testing.T) {
	r := newRig(t)
	m := &remote{rcpt: func(to string) string {
		if strings.Contains(to, "<gone@") {
			return "550-5.1.1 no such user\r\n550 5.1.1 ask somebody else"
		}
		return "250 ok"
	}}
	r.add("192.0.2.1:25", m)
	r.domain("elsewhere.example", "192.0.2.1")
	id := r.submit("alice@example.com", "x@elsewhere.example", "gone@elsewhere.example")
	r.start()
	r.wait("removed " + id)
	r.shutdown()
	if len(m.got()) != 1 {
		t.Error("the other recipient did not get the message")
	}
	inbox := r.store.inbox("alice@example.com")
	if len(inbox) != 1 {
		t.Fatalf("alice has %d messages", len(inbox))
	}
	if !strings.HasPrefix(inbox[0], "Return-Path: <>\r\nDelivered-To: alice@example.com\r\n") {
		t.Errorf("notice begins %q", inbox[0][:60])
	}
	n := parseReport(t, inbox[0])
	for field, want := range map[string]string{
		"From": "Mail Delivery System <postmaster@example.com>", "To": "<alice@example.com>", "Auto-Submitted": "auto-replied",
		"In-Reply-To": "<1@example.com>", "Message-Id": fmt.Sprintf("<%s.%d.1.failed@mail.example.com>", id, epoch.Unix()),
	} {
		if got := n.header.Get(field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	if !strings.Contains(n.text, "gone@elsewhere.example") || !strings.Contains(n.text, "no such user ask somebody else") || strings.Contains(n.text, "x@elsewhere") {
		t.Errorf("text:\n%s", n.text)
	}
	if len(n.status) != 2 || n.status[0].Get("Reporting-MTA") != "dns; mail.example.com" {
		t.Fatalf("status %v", n.status)
	}
	for field, want := range map[string]string{
		"Final-Recipient": "rfc822; gone@elsewhere.example", "Action": "failed", "Status": "5.1.1", "Remote-MTA": "dns; mx.elsewhere.example",
		"Diagnostic-Code": "smtp; 550 5.1.1 no such user ask somebody else",
	} {
		if got := n.status[1].Get(field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	if n.returnedAs != "message/rfc822" || n.returned != "Received: by us\r\n"+text {
		t.Errorf("returned %s %q", n.returnedAs, n.returned)
	}
}

func TestRefusalAtDataIsReturned(t *testing.T) {
	r := newRig(t)
	r.add("192.0.2.1:25", &remote{data: func(string) string { return "554 5.7.1 looks like spam" }})
	r.domain("elsewhere.example", "192.0.2.1")
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	r.wait("removed " + id)
	r.shutdown()
	if n := parseReport(t, r.store.inbox("alice@example.com")[0]); n.status[1].Get("Status") != "5.7.1" {
		t.Errorf("status %v", n.status)
	}
}

func TestTooLargeForTheServerIsNotSent(t *testing.T) {
	r := newRig(t)
	m := &remote{extensions: []string{"SIZE 10"}}
	r.add("192.0.2.1:25", m)
	r.domain("elsewhere.example", "192.0.2.1")
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	r.wait("removed " + id)
	r.shutdown()
	if n := parseReport(t, r.store.inbox("alice@example.com")[0]); n.status[1].Get("Status") != "5.3.4" {
		t.Errorf("status %v", n.status)
	}
	if slices.ContainsFunc(m.log(), func(c string) bool { return strings.HasPrefix(c, "MAIL") }) {
		t.Error("it was tried all the same")
	}
}

// One warning after four hours, the end after five days.
func TestWarningAndGivingUp(t *testing.T) {
	r := newRig(t)
	r.domain("elsewhere.example", "192.0.2.1") // nobody listens
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	var warned time.Duration
	for {
		select {
		case got := <-r.store.changed:
			if got == "removed "+id {
				r.shutdown()
				age := r.clock().Sub(epoch)
				inbox := r.store.inbox("alice@example.com")
				if len(inbox) != 2 {
					t.Fatalf("%d notices, want a warning and the end", len(inbox))
				}
				if warned < 4*time.Hour || warned > 9*time.Hour || age < 5*24*time.Hour || age > 5*24*time.Hour+6*time.Hour {
					t.Errorf("warned after %v, given up after %v", warned, age)
				}
				first, last := parseReport(t, inbox[0]), parseReport(t, inbox[1])
				if a := first.status[1]; a.Get("Action") != "delayed" || a.Get("Status") != "4.4.1" || a.Get("Will-Retry-Until") == "" || first.returnedAs != "text/rfc822-headers" {
					t.Errorf("warning %v, %s", a, first.returnedAs)
				}
				if a := last.status[1]; a.Get("Action") != "failed" || a.Get("Status") != "5.4.7" {
					t.Errorf("end %v", a)
				}
				return
			}
			if warned == 0 && len(r.store.inbox("alice@example.com")) == 1 {
				warned = r.clock().Sub(epoch)
			}
			e, _ := r.store.entry(id)
			r.advance(e.NextTry.Sub(r.clock()))
		case <-time.After(20 * time.Second):
			t.Fatal("the queue does nothing")
		}
	}
}

// A notice that cannot be delivered makes no other notice.
func TestNoNoticeAboutANotice(t *testing.T) {
	r := newRig(t)
	r.add("192.0.2.1:25", &remote{rcpt: func(string) string { return "550 5.1.1 no" }})
	r.domain("elsewhere.example", "192.0.2.1")
	id := r.submit("", "x@elsewhere.example")
	r.start()
	r.wait("removed " + id)
	r.shutdown()
	if list, _ := r.store.Queue(t.Context()); len(list) != 0 {
		t.Errorf("queued %+v", list)
	}
}

// signer marks what it signs.
type signer struct{}

func (signer) Sign(domain string, message io.Reader) ([]byte, error) {
	_, err := io.Copy(io.Discard, message)
	return []byte("DKIM-Signature: d=" + domain + "\r\n"), err
}

// Mail that was forwarded through us and failed goes back to its author, signed, from the null sender.
func TestNoticeToElsewhere(t *testing.T) {
	r := newRig(t)
	r.st.Signer = signer{}
	back := &remote{}
	r.add("192.0.2.1:25", &remote{mail: func(string) string { return "550 5.7.1 go away" }})
	r.add("192.0.2.2:25", back)
	r.domain("elsewhere.example", "192.0.2.1")
	r.domain("sender.example", "192.0.2.2")
	id := r.submit("carol@sender.example", "x@elsewhere.example")
	r.start()
	r.wait("removed "+id, "removed q2")
	r.shutdown()
	if !slices.Contains(back.log(), "MAIL FROM:<>") || !slices.Contains(back.log(), "RCPT TO:<carol@sender.example>") {
		t.Errorf("commands %q", back.log())
	}
	if got := back.got(); len(got) != 1 || !strings.HasPrefix(got[0], "DKIM-Signature: d=example.com\r\nFrom: Mail Delivery System <postmaster@example.com>\r\n") {
		t.Errorf("got %q", got)
	}
}

// The entry stays until its sender could be told.
func TestNoticeThatCannotBeStored(t *testing.T) {
	r := newRig(t)
	r.add("192.0.2.1:25", &remote{rcpt: func(string) string { return "550 5.1.1 no" }})
	r.domain("elsewhere.example", "192.0.2.1")
	failures := 1
	r.store.fail = func(method string) error {
		if method == "Deliver" && failures > 0 {
			failures--
			return store.ErrFull
		}
		return nil
	}
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	r.wait("updated " + id)
	r.advance(8 * time.Minute)
	r.wait("removed " + id)
	r.shutdown()
	if n := len(r.store.inbox("alice@example.com")); n != 1 {
		t.Errorf("%d notices", n)
	}
}

func TestLongMessageReturnsItsHeader(t *testing.T) {
	n := notice{hostname: "h.example", from: "postmaster@h.example", now: epoch, action: actionFailed,
		entry:    store.QueueEntry{ID: "q1", From: "a@b.example", Queued: epoch},
		about:    []undelivered{{"x@y.example", permanent("5.1.1", "no\r\nInjected: yes")}},
		original: []byte("Subject: --=_q1\r\n"), whole: false}
	got := n.build()
	if bytes.Contains(got, []byte("\nInjected")) {
		t.Error("a server's words make header fields")
	}
	r := parseReport(t, string(got))
	if r.returnedAs != "text/rfc822-headers" || r.returned != "Subject: --=_q1\r\n" {
		t.Errorf("returned %s %q", r.returnedAs, r.returned)
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add([]byte("250-mx\r\n250-SIZE 10\r\n250 ok\r\n"))
	f.Add([]byte("550 5.1.1 no\r\n"))
	f.Add([]byte("250\r\n"))
	f.Add([]byte("250-a\r\n550 b\r\n"))
	f.Add([]byte("999999\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readReply(bufioReader(string(b)))
		if err != nil {
			return
		}
		if r.code < 200 || r.code > 599 || len(r.lines) > maxReplyLines || len(r.String()) > 600 || strings.ContainsAny(r.String(), "\r\n\x00") {
			t.Fatalf("%q gave %+v", b, r)
		}
		if f := refusal("x", "y", r); f.enhanced[0] != '4' && f.enhanced[0] != '5' {
			t.Fatalf("%q gave status %s", b, f.enhanced)
		}
	})
}
