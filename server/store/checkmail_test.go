package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Check says whose message damage has hit, so that the person can be told, and nothing of
// what is in it but its Message-ID.
func TestCheckNamesTheMessage(t *testing.T) {
	l, err := Open(t.TempDir(), Options{ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.EnsureAccount(t.Context(), "a@b", 0); err != nil {
		t.Fatal(err)
	}
	hit := deliverBody(t, l, "Subject: canary\r\nMessage-ID:\r\n <one@example.com>\r\n\r\n"+noise(2*blobBlock))
	deliverBody(t, l, "Message-ID: <two@example.com>\r\n\r\n"+noise(100))
	if err := l.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(l.seg.dir, segmentName(hit.Body.Segment, kindLog)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("damage"), hit.Body.Offset+recordHeader+2*blobBlock)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	err = l.Check(t.Context())
	if err == nil {
		t.Fatal("damage is not found")
	}
	text := err.Error()
	for _, want := range []string{"a@b, INBOX, UID 1 (of 20", "EMAILID " + hit.ObjectID + ", Message-ID <one@example.com>), its body: ", "octets 131072 to "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(text, "canary") || strings.Contains(text, "UID 2") {
		t.Errorf("it says too much: %s", text)
	}
}
