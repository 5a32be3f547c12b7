package mimetree

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

func TestWithoutNUL(t *testing.T) {
	for _, c := range []struct {
		in, out string
		ok      bool
	}{
		{"A: b\r\n\r\nx", "A: b\r\n\r\nx", true},
		{"A: b\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00x", "A: b\r\nContent-Transfer-Encoding: base64\r\n\r\nAHg=\r\n", true},
		{"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\x00\r\n--b\r\n\r\nplain\r\n--b--\r\n",
			"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nAA==\r\n\r\n--b\r\n\r\nplain\r\n--b--\r\n", true},
		{"A: \x00\r\n\r\nx", "", false},
	} {
		out, ok := WithoutNUL([]byte(c.in))
		if ok != c.ok || ok && string(out) != c.out {
			t.Errorf("%q becomes %q, %v", c.in, out, ok)
		}
	}
}

func TestHideNUL(t *testing.T) {
	got, err := io.ReadAll(HideNUL(iotest.HalfReader(bytes.NewReader([]byte("\x00a\x00\x00b")))))
	if err != nil || string(got) != "\x80a\x80\x80b" {
		t.Errorf("%q, %v", got, err)
	}
}

// What is encoded says the same.
func FuzzWithoutNUL(f *testing.F) {
	f.Add([]byte("Content-Transfer-Encoding: binary\r\n\r\n\x00"))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\x00\r\n--b--\r\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, ok := WithoutNUL(data)
		if ok && bytes.IndexByte(out, 0) >= 0 {
			t.Errorf("%q still has a NUL", out)
		}
	})
}
