package filter

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"testing"

	"mailform/server/manifest"
)

func zipOf(t testing.TB, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, n := range names {
		w, err := z.Create(n)
		if err == nil {
			_, err = w.Write(bytes.Repeat([]byte(n), 100))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func wrapped(b []byte) string {
	text := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(text) > 76 {
		out.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	return out.String() + text
}

func mixed(part string) string {
	return "From: x@lax.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\n" + part + "\r\n--b--\r\n"
}

func TestAttachments(t *testing.T) {
	evil := wrapped(zipOf(t, "readme.txt", "dir/Invoice.EXE"))
	fine := wrapped(zipOf(t, "readme.txt", "exe", "notes.exe.txt"))
	inner := zipOf(t, "deep.exe")
	var nested bytes.Buffer
	z := zip.NewWriter(&nested)
	w, err := z.CreateRaw(&zip.FileHeader{Name: "inner.zip", Method: zip.Store, UncompressedSize64: uint64(len(inner)), CompressedSize64: uint64(len(inner))})
	if err == nil {
		_, err = w.Write(inner)
	}
	if err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	var quoted strings.Builder
	q := quotedprintable.NewWriter(&quoted)
	_, _ = q.Write(zipOf(t, "x.exe"))
	_ = q.Close()
	for name, tc := range map[string]struct {
		part string
		bad  bool
	}{
		"plain name":            {"Content-Disposition: attachment; filename=invoice.exe\r\n\r\nMZ", true},
		"quoted, capitals":      {"Content-Disposition: attachment; filename=\"My Invoice.EXE\"\r\n\r\nMZ", true},
		"in Content-Type":       {"Content-Type: application/octet-stream; name=\"a.exe\"\r\n\r\nMZ", true},
		"inline":                {"Content-Disposition: inline; filename=a.exe\r\n\r\nMZ", true},
		"dots and blanks":       {"Content-Disposition: attachment; filename=\"a.exe. . \"\r\n\r\nMZ", true},
		"with a path":           {"Content-Disposition: attachment; filename=\"C:\\\\x.txt\\\\a.exe\"\r\n\r\nMZ", true},
		"RFC 2231":              {"Content-Disposition: attachment; filename*=utf-8''a%2Ee%78e\r\n\r\nMZ", true},
		"RFC 2231, odd charset": {"Content-Disposition: attachment; filename*=gb18030'zh'%B7%A2%C6%B1.exe\r\n\r\nMZ", true},
		"RFC 2231 in pieces":    {"Content-Disposition: attachment;\r\n filename*1*=%65;\r\n filename*0=invoice.;\r\n filename*2=xe\r\n\r\nMZ", true},
		"RFC 2231, broken":      {"Content-Disposition: attachment; filename*=a%2Eexe\r\n\r\nMZ", true},
		"RFC 2047":              {"Content-Disposition: attachment; filename=\"=?utf-8?B?5Y+R56WoLmV4ZQ==?=\"\r\n\r\nMZ", true},
		"RFC 2047 in pieces":    {"Content-Type: application/x; name=\"=?utf-8?Q?invo?=\r\n =?utf-8?Q?ice=2Eexe?=\"\r\n\r\nMZ", true},
		"two names":             {"Content-Disposition: attachment; filename=a.txt; filename=a.exe\r\n\r\nMZ", true},
		"unquoted blanks":       {"Content-Disposition: attachment; filename=my own.exe\r\n\r\nMZ", true},
		"the last of many":      {"Content-Disposition: attachment" + strings.Repeat(";\r\n x=y", 5000) + "; filename=a.exe\r\n\r\nMZ", true},
		"the last field":        {strings.Repeat("Content-Disposition: attachment; filename=a.txt\r\n", 2000) + "Content-Disposition: attachment; filename=a.exe\r\n\r\nMZ", true},
		"another script":        {"Content-Disposition: attachment; filename=run.vbs\r\n\r\nx", true},
		"in a zip":              {"Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + evil, true},
		"in a zip by name":      {"Content-Type: application/octet-stream; name=a.ZIP\r\nContent-Transfer-Encoding: BASE64\r\n\r\n" + evil, true},
		"in a zip by type":      {"Content-Type: application/x-zip-compressed\r\nContent-Transfer-Encoding: base64\r\n\r\n" + evil, true},
		"in a broken zip":       {"Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + "!!" + evil[:len(evil)-40], true},
		"in a zip in a zip":     {"Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped(nested.Bytes()), true},
		"in a quoted zip":       {"Content-Type: application/zip\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted.String(), true},
		"in a forwarded one":    {"Content-Type: message/rfc822\r\n\r\nSubject: x\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nMZ", true},
		"in an encoded one":     {"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped([]byte(mixed("Content-Type: x/y; name=a.exe\r\n\r\nMZ"))), true},
		"an encoded one":        {"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped([]byte(mixed("Content-Type: application/zip\r\n\r\nPK"))), false},
		"a harmless zip":        {"Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + fine, false},
		"a document":            {"Content-Disposition: attachment; filename=\"exe.pdf\"\r\n\r\nx", false},
		"no extension":          {"Content-Disposition: attachment; filename=exe\r\n\r\nx", false},
		"text that speaks":      {"Content-Type: text/plain\r\n\r\nfilename=a.exe", false},
	} {
		r := start(t)
		p := &manifest.Filter{Attachments: []string{"exe", "vbs"}}
		msg := Message{Hostname: "mail.example.com", Authors: []string{"x@lax.example"}, FromSeen: 1, Body: bytes.NewReader([]byte(mixed(tc.part)))}
		v, err := r.client("192.0.2.7", "mx.good.example").Begin(t.Context(), p, "x@lax.example").Message(t.Context(), msg)
		if err != nil {
			t.Fatal(err)
		}
		if bad := v.Refuse != nil; bad != tc.bad {
			t.Errorf("%s: refused %v, want %v (%v)", name, bad, tc.bad, v.Facts.Strings())
		} else if bad && (v.Refuse.Code != 550 || !strings.HasPrefix(v.Refuse.Text, "Attachments of type .") || strings.ContainsAny(v.Refuse.Text, "\r\n") || !v.has("attachment:")) {
			t.Errorf("%s: %v, %v", name, v.Refuse, v.Facts.Strings())
		}
	}
}

func (v Verdict) has(prefix string) bool {
	for _, f := range v.Facts {
		if strings.HasPrefix(f.Name, prefix) {
			return true
		}
	}
	return false
}

// An archive that is nothing but headers with long names costs no more than one
// of the same size.
func TestZipBounds(t *testing.T) {
	header := make([]byte, 46)
	copy(header, "PK\x01\x02")
	binary.LittleEndian.PutUint16(header[28:], 65535)
	looked, longest := 0, 0
	_, err := findInZip(bytes.NewReader(bytes.Repeat(header, 100_000)), func(n string) bool {
		looked++
		longest = max(longest, len(n))
		return false
	})
	if !errors.Is(err, errComplex) || looked > maxZipEntries || longest > 4*maxZipName {
		t.Errorf("%v; %d names, the longest has %d octets", err, looked, longest)
	}
}

// What cannot be looked through is refused, so that nothing hides behind it.
func TestTooComplex(t *testing.T) {
	var nested strings.Builder
	for i := range 100 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	for name, text := range map[string]string{
		"many parts": mixed("x: y\r\n\r\n" + strings.Repeat("\r\n--b\r\n\r\nx", 6000) + "\r\n--b\r\nContent-Type: x/y; name=a.exe\r\n\r\nMZ"),
		"long line":  mixed("Content-Disposition: attachment" + strings.Repeat("; x=y", 5000) + "; filename=a.exe\r\n\r\nMZ"),
		"deep":       nested.String() + "Content-Type: x/y; name=a.exe\r\n\r\nMZ",
	} {
		r := start(t)
		msg := Message{Hostname: "mail.example.com", Authors: []string{"x@lax.example"}, FromSeen: 1, Body: strings.NewReader(text)}
		v, err := r.client("192.0.2.7", "mx.good.example").Begin(t.Context(), &manifest.Filter{Attachments: []string{"exe"}}, "x@lax.example").Message(t.Context(), msg)
		if err != nil || v.Refuse == nil || !v.has("too-complex") {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func FuzzAttachments(f *testing.F) {
	f.Add(mixed("Content-Disposition: attachment; filename*0*=utf-8''a; filename*1=\"b\\\"\"\r\n\r\nx"))
	f.Add(mixed("Content-Type: application/zip; name=\"=?utf-8?b?xx?=\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped(zipOf(f, "a.b"))))
	f.Add("Content-Type: application/zip\r\n\r\n" + string(zipOf(f, "a", "b.exe")))
	f.Fuzz(func(t *testing.T, text string) {
		name, err := findAttachment(strings.NewReader(text), []string{"exe"})
		if err != nil && !errors.Is(err, errComplex) {
			t.Fatal(err)
		}
		if name != "" && extension(name) != "exe" {
			t.Fatalf("refused %q", name)
		}
	})
}

func ExampleFacts() {
	facts := Facts{{"no-rdns", 3}, {"spf-pass", -1}, {"dmarc-none", 0}}
	fmt.Println(facts.Score(), facts.Strings())
	// Output: 2 [no-rdns(3) spf-pass(-1) dmarc-none]
}
