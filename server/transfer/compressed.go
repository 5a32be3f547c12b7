package transfer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// decompressed reads a file from its beginning as it was before somebody
// compressed it: gzip, bzip2 or zstd, told by its first octets. It says whether
// that was so.
func decompressed(f io.ReadSeeker) (io.ReadCloser, bool, error) {
	var magic [6]byte
	n, err := io.ReadFull(f, magic[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, false, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, false, err
	}
	has := func(prefix string) bool { return bytes.HasPrefix(magic[:n], []byte(prefix)) }
	switch {
	case has("\x1f\x8b"):
		z, err := gzip.NewReader(bufio.NewReader(f))
		return z, true, err
	case has("BZh"):
		return io.NopCloser(bzip2.NewReader(bufio.NewReader(f))), true, nil
	case has("\x28\xb5\x2f\xfd"):
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, true, err
		}
		return z.IOReadCloser(), true, nil
	case has("\xfd7zXZ"):
		return nil, true, errors.New("it is compressed with xz: unpack it first")
	}
	return io.NopCloser(f), false, nil
}
