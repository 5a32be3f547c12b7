package bucket

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"
)

// What an *Error may be, for errors.Is.
var (
	ErrNotFound = errors.New("no such object")
	ErrExists   = errors.New("the object exists")
	// ErrConflict: another request for the same key was under way; this one had no
	// effect and may be sent again.
	ErrConflict = errors.New("conflicting request")
	ErrDenied   = errors.New("denied")
	// ErrBusy: the service asks to come back later; the request had no effect.
	ErrBusy = errors.New("busy")
)

// Error is a refusal by the service.
type Error struct {
	Method, Path string
	Status       int
	Code         string // the service's: "SlowDown", "NoSuchBucket"
	Message      string
	RequestID    string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: %d", e.Method, e.Path, e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Is implements errors.Is for the errors above.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound && e.Code != "NoSuchBucket"
	case ErrExists: // S3 and OSS
		return e.Status == http.StatusPreconditionFailed || e.Status == http.StatusConflict && e.Code == "FileAlreadyExists"
	case ErrConflict:
		return e.Status == http.StatusConflict && (e.Code == "ConditionalRequestConflict" || e.Code == "OperationAborted")
	case ErrDenied:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	case ErrBusy:
		return e.Status == http.StatusServiceUnavailable || e.Status == http.StatusTooManyRequests
	}
	return false
}

// maxErrorBody bounds what is read of a refusal.
const maxErrorBody = 64 << 10

func readError(resp *http.Response, method, path string) *Error {
	e := &Error{Method: method, Path: path, Status: resp.StatusCode}
	e.RequestID = clean(resp.Header.Get("X-Amz-Request-Id") + resp.Header.Get("X-Oss-Request-Id"))
	var body struct {
		XMLName xml.Name `xml:"Error"`
		Code    string   `xml:"Code"`
		Message string   `xml:"Message"`
	}
	if xml.NewDecoder(io.LimitReader(resp.Body, maxErrorBody)).Decode(&body) == nil {
		e.Code, e.Message = clean(body.Code), clean(body.Message)
	}
	if e.Code == "" {
		e.Message = http.StatusText(resp.StatusCode)
	}
	return e
}

// clean makes one short printable line of a foreign text.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	const longest = 300
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return strings.TrimSpace(s)
}
