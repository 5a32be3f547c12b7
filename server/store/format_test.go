package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A store that a newer mailformd has written is read while that is possible, and
// refused in words otherwise.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	open := func() error {
		l, err := Open(dir, Options{Version: "1.3"})
		if err == nil {
			err = l.Close()
		}
		return err
	}
	file := filepath.Join(dir, "format")
	read := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != sealed(`{"format":2,"reader":2,"written_by":"1.3"}`) {
		t.Errorf("format: %s", got)
	}
	for _, tc := range []struct{ text, want string }{
		{sealed(`{"format":6,"reader":5,"written_by":"1.4"}`), ""},
		{sealed(`{"format":7,"reader":6,"written_by":"1.5"}`), "format 7, written by mailformd 1.5; this mailformd reads formats up to 5"},
	} {
		if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := open()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.text, err, tc.want)
		}
		if read() != tc.text {
			t.Errorf("%s was changed to %s", tc.text, read())
		}
	}
	// Damage must not keep mail from being served: the segments say the same.
	for _, text := range []string{"", "garbage", `{"format":9,"reader":9} 00000000`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(); err != nil || !strings.HasPrefix(read(), `{"format":5,`) {
			t.Errorf("%q: %v, then %s", text, err, read())
		}
	}
	var refused *FormatError
	if err := os.WriteFile(file, []byte(sealed(`{"format":6,"reader":6}`)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(); !errors.As(err, &refused) || !strings.Contains(err.Error(), "mailform rollback") || !strings.Contains(err.Error(), "mailformd restore") {
		t.Errorf("the way back is not told: %v", err)
	}
	// Stores from before there was the file, and after a cut-off write.
	if err := os.Rename(file, file+".new"); err != nil {
		t.Fatal(err)
	}
	if err := open(); err != nil || !strings.Contains(read(), `"format":2`) {
		t.Errorf("without the file: %v", err)
	}
}

// The same is known from a segment alone, which is what a restored store may be.
func TestNewerSegment(t *testing.T) {
	b := segmentInfo{ID: 1, Marker: 2}.encode()
	if _, err := decodeSegmentInfo(b); err != nil {
		t.Fatal(err)
	}
	b[6] = 2 // of another format's magic
	if _, err := decodeSegmentInfo(b); !errors.Is(err, errHeader) {
		t.Errorf("a header that does not match its checksum: %v", err)
	}
	var newer *FormatError
	if _, err := decodeSegmentInfo(resealed(b)); !errors.As(err, &newer) {
		t.Errorf("a newer segment: %v", err)
	}
}

// resealed gives a header its checksum again.
func resealed(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[60:], checksum(b[:60]))
	return b
}

func sealed(text string) string { return fmt.Sprintf("%s %08x", text, checksum([]byte(text))) }
