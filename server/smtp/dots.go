package smtp

import "bytes"

// dots finds the end of a message in DATA and takes away the dots that its
// lines were given, RFC 5321 4.5.2. Only CRLF begins a line here, and only
// CRLF.CRLF ends the message: what else looks like it is for intake to refuse.
type dots struct {
	middle bool // within a line
	length int  // octets of that line so far
}

var endOfData = []byte(".\r\n")

// take gives what is of the message in b to write, in long runs. It returns how
// much of b it has used, and whether the message has ended with that; what it has
// not used it wants to see again, with more behind it. An error is errTooLong or
// write's.
func (d *dots) take(b []byte, write func([]byte) error) (used int, ended bool, err error) {
	run, at := 0, 0 // b[run:at] is to be written
	flush := func() error {
		if run == at {
			return nil
		}
		err := write(b[run:at])
		run = at
		return err
	}
	for at < len(b) {
		if !d.middle && b[at] == '.' {
			if bytes.HasPrefix(endOfData, b[at:]) && len(b)-at < len(endOfData) {
				break // it may be the end
			}
			if err := flush(); err != nil {
				return at, false, err
			}
			if bytes.HasPrefix(b[at:], endOfData) {
				return at + len(endOfData), true, nil
			}
			at++
			run = at
		}
		end := bytes.IndexByte(b[at:], '\n') + 1
		line := b[at:]
		if end > 0 {
			line = b[at : at+end]
		} else if len(line) > 0 && line[len(line)-1] == '\r' {
			line = line[:len(line)-1] // half a line's end
		}
		if len(line) == 0 {
			break
		}
		at += len(line)
		if d.length += len(line); d.length > maxLine {
			return at, false, errTooLong
		}
		d.middle = !bytes.HasSuffix(line, []byte("\r\n"))
		if !d.middle {
			d.length = 0
		}
		if end == 0 {
			break
		}
	}
	return at, false, flush()
}
