// Package agentbin finds the mailformd that is to be put on a host: the one
// embedded in this program, or one that lies beside it. It imports nothing of
// mailform.
package agentbin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Binary is a mailformd for one architecture.
type Binary struct {
	Arch   string // "amd64" or "arm64"
	SHA256 string // hex, of the executable itself
	Size   int64  // bytes of the executable itself
	// Gzip gives the executable, compressed. Only an upload needs it: where the
	// compressing is still to be done it takes longer than all else that a plan does.
	Gzip func() ([]byte, error)
}

// Source gives the mailformd for a Linux architecture in Go's names.
type Source interface {
	Agent(arch string) (Binary, error)
}

// maxSize bounds an executable, in bytes.
const maxSize = 256 << 20

// Default is the Source of a mailform at the path executable: what is embedded
// in it, else a mailformd in its folder.
func Default(executable string) Source {
	return &cache{find: func(arch string) (Binary, error) {
		if z := embedded(arch); len(z) > 0 {
			return fromGzip(arch, z)
		}
		beside := filepath.Join(filepath.Dir(executable), "mailformd")
		b, err := fromFile(arch, beside)
		if err != nil {
			return b, fmt.Errorf("this mailform carries no mailformd for linux/%s and %w; run `make build`, which embeds it", arch, err)
		}
		return b, nil
	}}
}

// File is the Source that has one executable only.
func File(path string) Source {
	return &cache{find: func(arch string) (Binary, error) { return fromFile(arch, path) }}
}

// cache remembers what was found: compressing or hashing takes a moment.
type cache struct {
	find  func(arch string) (Binary, error)
	mu    sync.Mutex
	found map[string]Binary
}

func (c *cache) Agent(arch string) (Binary, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.found[arch]; ok {
		return b, nil
	}
	b, err := c.find(arch)
	if err != nil {
		return b, err
	}
	if c.found == nil {
		c.found = map[string]Binary{}
	}
	c.found[arch] = b
	return b, nil
}

func fromGzip(arch string, z []byte) (Binary, error) {
	b := Binary{Arch: arch, Gzip: func() ([]byte, error) { return z, nil }}
	r, err := gzip.NewReader(bytes.NewReader(z))
	if err != nil {
		return b, fmt.Errorf("the embedded mailformd for %s is damaged: %w", arch, err)
	}
	h := sha256.New()
	if b.Size, err = io.Copy(h, io.LimitReader(r, maxSize)); err != nil {
		return b, fmt.Errorf("the embedded mailformd for %s is damaged: %w", arch, err)
	}
	b.SHA256 = hex.EncodeToString(h.Sum(nil))
	return b, nil
}

func fromFile(arch, path string) (Binary, error) {
	b := Binary{Arch: arch}
	have, err := archOf(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, fmt.Errorf("there is none at %s", path)
	}
	if err != nil {
		return b, fmt.Errorf("%s is of no use: %w", path, err)
	}
	if have != arch {
		return b, fmt.Errorf("%s is for linux/%s", path, have)
	}
	f, err := os.Open(path)
	if err != nil {
		return b, err
	}
	defer f.Close()
	h := sha256.New()
	if b.Size, err = io.Copy(h, io.LimitReader(f, maxSize)); err != nil {
		return b, err
	}
	b.SHA256 = hex.EncodeToString(h.Sum(nil))
	b.Gzip = sync.OnceValues(func() ([]byte, error) { return compress(path, b.SHA256) })
	return b, nil
}

// compress gives the file with a digest, compressed.
func compress(path, sha string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.MultiWriter(h, w), io.LimitReader(f, maxSize)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if hex.EncodeToString(h.Sum(nil)) != sha {
		return nil, fmt.Errorf("%s has become another one since it was looked at: run the command again", path)
	}
	return z.Bytes(), nil
}

// archOf reads the architecture from an ELF header.
func archOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return "", errors.New("not a Linux program")
	}
	switch e.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fmt.Errorf("for %s, which mailform does not serve", e.Machine)
}
