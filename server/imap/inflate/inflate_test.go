package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"strings"
	"testing"
)

// Octets that end where their sender waits say all they have to say, although
// the stream goes on in the middle of the last: these are zlib's with
// Z_PARTIAL_FLUSH.
func TestPartialFlush(t *testing.T) {
	in, feed := io.Pipe()
	got, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Copy(out, in) }()
	for _, c := range []struct{ compressed, text string }{
		{"\x32\x56\xf0\x73\xf4\x75\x0d\x0e\x70\x74\x76\xe5\xe5\x02\x08", "3 NAMESPACE\r\n"},
		{"\x20\x13\x05\x1f\xcf\xe0\x10\x05\x25\x25\x05\x2d\x5e\x2e\x63\x64\x19\x80\x00", "4 LIST \"\" *\r\n3 NAMESPACE\r\n"},
	} {
		if _, err := io.WriteString(feed, c.compressed); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(c.text))
		if _, err := io.ReadFull(got, b); err != nil || string(b) != c.text {
			t.Errorf("%q, %v; want %q", b, err, c.text)
		}
	}
	feed.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}

// FuzzInflate holds it to the standard library.
func FuzzInflate(f *testing.F) {
	for level := range 10 {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, level)
		if err != nil {
			f.Fatal(err)
		}
		io.WriteString(w, strings.Repeat("The quick brown fox ", 300)+string(bytes.Repeat([]byte{0, 1, 2, 3, 255}, 100*level)))
		w.Close()
		f.Add(b.Bytes(), level)
	}
	f.Add([]byte("\x32\x56\xf0\x73\xf4\x75\x0d\x0e\x70\x74\x76\xe5\xe5\x02\x08"), 1)
	f.Fuzz(func(t *testing.T, data []byte, level int) {
		// As a compressed stream.
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), 1<<20))
		if len(want) < 1<<20 {
			var got bytes.Buffer
			err := Copy(&got, bytes.NewReader(data))
			if (err == nil) != (wantErr == nil) {
				// Codes that are not complete are taken here and refused there.
				if wantErr == nil || !bytes.HasPrefix(got.Bytes(), want) {
					t.Fatalf("%v, the library says %v", err, wantErr)
				}
			} else if err == nil && !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("%q, the library says %q", got.Bytes(), want)
			}
		}
		// As what is compressed.
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, max(-2, min(level, 9)))
		if err != nil {
			t.Fatal(err)
		}
		half := len(data) / 2
		w.Write(data[:half])
		w.Flush()
		w.Write(data[half:])
		w.Close()
		var got bytes.Buffer
		if err := Copy(&got, &b); err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Fatalf("%v, %q comes back as %q", err, data, got.Bytes())
		}
	})
}
