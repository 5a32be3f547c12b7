package pop3

import (
	"errors"
	"io"
)

// errEnough ends the copying of a message of which only the top is wanted.
var errEnough = errors.New("that is enough of the message")

// dots writes a message as a multi-line response: a dot ahead of each line that
// begins with one, and a last line with only a dot (RFC 1939 section 3). It ends
// with errEnough after the header, the empty line behind it and lines lines of
// the body, unless lines is negative.
type dots struct {
	w     io.Writer
	lines int

	inBody bool
	middle bool // within a line
	cr     bool // the last octet was CR
	length int  // octets of the line so far, without its end
}

func (d *dots) Write(p []byte) (int, error) {
	from := 0 // octets before it are written
	for i, b := range p {
		if !d.middle {
			if d.inBody && d.lines == 0 {
				if _, err := d.w.Write(p[from:i]); err != nil {
					return from, err
				}
				return i, errEnough
			}
			d.middle, d.length = true, 0
			if b == '.' {
				if _, err := d.w.Write(p[from:i]); err != nil {
					return from, err
				}
				from = i
				if _, err := io.WriteString(d.w, "."); err != nil {
					return from, err
				}
			}
		}
		switch b {
		case '\n':
			if !d.inBody {
				d.inBody = d.length == 0
			} else if d.lines > 0 {
				d.lines--
			}
			d.middle, d.cr = false, false
		case '\r':
			d.cr = true
		default:
			d.length++
			d.cr = false
		}
	}
	_, err := d.w.Write(p[from:])
	return len(p), err
}

// end writes the last line, behind the line end that a message may lack.
func (d *dots) end() error {
	text := ".\r\n"
	switch {
	case d.middle && d.cr:
		text = "\n" + text
	case d.middle:
		text = "\r\n" + text
	}
	_, err := io.WriteString(d.w, text)
	return err
}
