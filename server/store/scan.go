package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// scanned is what a scanner finds next: a record, or a stretch without one.
type scanned struct {
	record
	off     int64
	length  int64  // octets in the file, padding included
	payload []byte // of a transaction
	// bad says why the stretch is not a record.
	bad error
}

// scanner walks over the records of a segment.
type scanner struct {
	r      io.ReaderAt
	marker uint64
	pos    int64
	end    int64
}

// next returns the next record or damaged stretch; io.EOF at the end. A blob's
// octets are not read, see verifyBlob. Other errors are failures to read the
// file at all.
func (s *scanner) next() (scanned, error) {
	if s.pos >= s.end {
		return scanned{}, io.EOF
	}
	sc, err := s.at(s.pos)
	if err != nil {
		return scanned{}, err
	}
	s.pos = sc.off + sc.length
	return sc, nil
}

func (s *scanner) at(off int64) (scanned, error) {
	var head [recordHeader]byte
	if s.end-off < recordHeader {
		return scanned{off: off, length: s.end - off, bad: errors.New("cut off within a header")}, nil
	}
	if _, err := s.r.ReadAt(head[:], off); err != nil {
		return scanned{}, err
	}
	rec, err := decodeRecord(head[:], s.marker)
	if err != nil {
		return s.resync(off, err)
	}
	sc := scanned{record: rec, off: off, length: rec.size()}
	if sc.length > s.end-off {
		return s.resync(off, errors.New("cut off"))
	}
	switch rec.Type {
	case recordTx:
		sc.payload = make([]byte, rec.Len)
		if _, err := s.r.ReadAt(sc.payload, off+recordHeader); err != nil {
			return scanned{}, err
		}
		if checksum(sc.payload) != rec.Sum {
			sc.bad = errors.New("transaction does not match its checksum")
		}
	case recordBlob, recordCoded, recordSealed, recordHole:
	default:
		sc.bad = fmt.Errorf("record of unknown type %d", rec.Type)
	}
	return sc, nil
}

// resync looks for the next record behind a header that makes no sense.
func (s *scanner) resync(off int64, why error) (scanned, error) {
	var marker [8]byte
	binary.LittleEndian.PutUint64(marker[:], s.marker)
	buf := make([]byte, 64<<10)
	from := off + recordAlign
	for from < s.end {
		n, err := s.r.ReadAt(buf[:min(int64(len(buf)), s.end-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return scanned{}, err
		}
		if n == 0 {
			break
		}
		for i := 0; ; {
			k := bytes.Index(buf[i:n], marker[:])
			if k < 0 {
				break
			}
			at := from + int64(i+k)
			i += k + 1
			if at%recordAlign != 0 {
				continue
			}
			var head [recordHeader]byte
			if _, err := s.r.ReadAt(head[:], at); err != nil {
				continue
			}
			if _, err := decodeRecord(head[:], s.marker); err == nil {
				return scanned{off: off, length: at - off, bad: why}, nil
			}
		}
		if from+int64(n) >= s.end {
			break
		}
		from += int64(n) - int64(len(marker)) + 1
	}
	return scanned{off: off, length: s.end - off, bad: why}, nil
}
