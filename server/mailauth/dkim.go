package mailauth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
)

// Bounds on what is verified. Their purpose is that a message cannot cost much
// more than it took to send; honest mail is far from all of them.
const (
	maxSignatures    = 8
	maxSignature     = 8 << 10  // octets of a DKIM-Signature field
	maxSignedFields  = 256      // names in an h= tag
	maxFields        = 1000     // header fields of a signed message
	maxContinuations = 2000     // lines of one header field
	maxBlank         = 64 << 10 // octets of empty lines in a row
)

// DKIM is the result for one signature.
type DKIM struct {
	Result   Result
	Domain   string // d=, lower case
	Selector string // s=, lower case
	Reason   string // why it does not pass, for people
}

// CheckDKIM verifies the signatures of a message with CRLF line ends, at most
// the first 8, each with the key in the DNS. There is no result for a message
// without a signature. An error is message's.
func CheckDKIM(ctx context.Context, r Resolver, message io.Reader) ([]DKIM, error) {
	header, rest, err := readHeader(message)
	if errors.Is(err, ErrHeader) {
		return nil, nil // it was too long to be taken, or has none
	}
	if err != nil {
		return nil, err
	}
	results, malformed := signatures(header)
	if len(results) == 0 {
		return nil, nil
	}
	if malformed != "" {
		for i := range results {
			results[i].Result, results[i].Reason = PermError, malformed
		}
		return results, nil
	}
	body := &bounded{r: rest, ctx: ctx}
	verified, err := dkim.VerifyWithOptions(io.MultiReader(bytes.NewReader(header), body), &dkim.VerifyOptions{
		LookupTXT:        func(name string) ([]string, error) { return lookups{r}.LookupTXT(ctx, name) },
		MaxVerifications: maxSignatures,
	})
	if body.err != nil && !errors.Is(body.err, errBlank) && ctx.Err() == nil {
		return nil, body.err
	}
	for i := range results {
		if i >= len(verified) || err != nil && !errors.Is(err, dkim.ErrTooManySignatures) {
			results[i].Result, results[i].Reason = TempError, "not verified" // the library's own trouble
			continue
		}
		results[i].judge(ctx, body.err, verified[i].Err)
	}
	return results, nil
}

// judge puts what the library says into a Result.
func (d *DKIM) judge(ctx context.Context, body, err error) {
	switch {
	case errors.Is(body, errBlank):
		d.Result, d.Reason = PermError, errBlank.Error()
	case err == nil && body == nil:
		d.Result = Pass
	case err == nil || ctx.Err() != nil || dkim.IsTempFail(err):
		d.Result, d.Reason = TempError, "no answer in time"
	case dkim.IsPermFail(err):
		d.Result, d.Reason = PermError, strings.TrimPrefix(err.Error(), "dkim: ")
	default:
		d.Result, d.Reason = Fail, strings.TrimPrefix(err.Error(), "dkim: ")
	}
}

// signatures lists the signatures that will be verified, in order, and says
// what makes the header one that is not verified.
func signatures(header []byte) (list []DKIM, malformed string) {
	fields := 0
	var field []byte
	lines := 0
	end := func() {
		name, value, _ := bytes.Cut(field, []byte(":"))
		if lines > maxContinuations {
			malformed = "a header field has too many lines"
		}
		if !strings.EqualFold(string(bytes.TrimSpace(name)), "DKIM-Signature") || len(list) == maxSignatures {
			return
		}
		tags := tagList(string(value))
		if len(field) > maxSignature || strings.Count(tags["h"], ":") >= maxSignedFields {
			malformed = "a signature is too long"
		}
		list = append(list, DKIM{Domain: strings.ToLower(tags["d"]), Selector: strings.ToLower(tags["s"])})
	}
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		if len(line) == 0 {
			break
		}
		if (line[0] == ' ' || line[0] == '\t') && fields > 0 {
			field = append(field, line...)
			lines++
			continue
		}
		end()
		field, lines = append(field[:0], line...), 1
		fields++
	}
	end()
	if fields > maxFields {
		malformed = "too many header fields"
	}
	return list, malformed
}

// tagList parses tag=value pairs, RFC 6376 3.2, without blanks in values.
func tagList(s string) map[string]string {
	tags := map[string]string{}
	for pair := range strings.SplitSeq(s, ";") {
		name, value, _ := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if _, twice := tags[name]; !twice {
			tags[name] = strings.Join(strings.Fields(value), "")
		}
	}
	return tags
}

var errBlank = errors.New("too many empty lines in a row")

// bounded reads a message's body for the library, which keeps empty lines until
// it knows what follows, and goes over them again and again. Whatever goes wrong
// is kept in err and looks like the body's end: on an error the library would
// leave goroutines behind.
type bounded struct {
	r     io.Reader
	ctx   context.Context
	blank int
	err   error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, io.EOF
	}
	if b.err = b.ctx.Err(); b.err != nil {
		return 0, io.EOF
	}
	n, err := b.r.Read(p)
	for _, c := range p[:n] {
		if c == '\r' || c == '\n' {
			if b.blank++; b.blank > maxBlank {
				b.err = errBlank
				return 0, io.EOF
			}
		} else {
			b.blank = 0
		}
	}
	if err != nil && err != io.EOF {
		b.err = err
		err = io.EOF
	}
	return n, err
}
