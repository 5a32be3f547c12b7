package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"mailform/server/manifest"
	"mailform/server/store"
)

// Format is the version of what is written to the bucket. A reader refuses a
// newer one and says so.
const Format = 1

const (
	// partBytes is the most that one object holds of a file.
	partBytes = 16 << 20
	// maxManifest and maxPage bound what is read of them, in octets: a page of
	// files of 128 parts each.
	maxManifest = 4 << 20
	maxPage     = 16 << 20
	// smallParts is how many small parts a growing file may have before they
	// are copied again as one.
	smallParts = 32
)

// sum is the SHA-256 of an object, which is its name, too.
type sum [sha256.Size]byte

func (s sum) String() string { return hex.EncodeToString(s[:]) }

// MarshalText implements encoding.TextMarshaler.
func (s sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *sum) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(s)) || string(bytes.ToLower(text)) != string(text) {
		return fmt.Errorf("%.80q is not a SHA-256", text)
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// object is a stored run of octets.
type object struct {
	Sum  sum   `json:"sha256"`
	Size int64 `json:"size"`
}

// Manifest is the object that makes a backup: it is written last, and everything
// it names, directly or through its pages, is in the bucket by then.
type Manifest struct {
	Format  int       `json:"format"`
	Time    time.Time `json:"time"` // all that was acknowledged until then is in it
	Stack   string    `json:"stack"`
	Host    string    `json:"host"`
	Version string    `json:"version"` // of the mailformd that wrote it
	Store   int       `json:"store"`   // store.Format
	Files   int       `json:"files"`
	Bytes   int64     `json:"bytes"`
	Pages   []object  `json:"pages"` // lists of files, so that backups share what did not change
}

// Told is what the daemon answers about it.
func (m *Manifest) Told() manifest.Backed {
	return manifest.Backed{Time: m.Time, Files: m.Files, Bytes: m.Bytes}
}

// file is a file of a backup: its parts, one behind the other.
type file struct {
	Name   string   `json:"name"`
	Marker string   `json:"marker,omitempty"` // see store.ImageFile
	Size   int64    `json:"size"`
	Parts  []object `json:"parts"`
}

const (
	storeDir        = "store/"
	credentialsName = "credentials.json"
	retainedName    = "retained.json"
)

// fileName is what may be restored: nothing outside of the state directory.
var fileName = regexp.MustCompile(`^(store/log/[0-9a-f]{16}\.(log|body)|store/checkpoint/[0-9a-f]{16}|store/keyring|credentials\.json|retained\.json)$`)

var errDamaged = errors.New("it is damaged")

func encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return append(text, '\n'), err
}

// readManifest reads the text of a manifest and checks what it says.
func readManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	switch {
	case m.Format > Format:
		return nil, fmt.Errorf("it has format %d, this mailformd knows up to %d: use a newer one", m.Format, Format)
	case m.Store > store.Format:
		return nil, fmt.Errorf("its mail store has format %d, this mailformd knows up to %d: use a newer one", m.Store, store.Format)
	case m.Format < 1 || m.Time.IsZero() || m.Files < 0 || m.Bytes < 0:
		return nil, fmt.Errorf("%w: it is no manifest of a backup", errDamaged)
	}
	for _, p := range m.Pages {
		if p.Size <= 0 || p.Size > maxPage {
			return nil, fmt.Errorf("%w: a page of %d octets", errDamaged, p.Size)
		}
	}
	return m, nil
}

// readPage reads the text of a page and checks what it says.
func readPage(text []byte) ([]file, error) {
	var files []file
	if err := json.Unmarshal(text, &files); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	for _, f := range files {
		if !fileName.MatchString(f.Name) {
			return nil, fmt.Errorf("%w: %.100q is no file of a backup", errDamaged, f.Name)
		}
		var size int64
		for _, p := range f.Parts {
			if p.Size <= 0 || p.Size > partBytes {
				return nil, fmt.Errorf("%w: %s has a part of %d octets", errDamaged, f.Name, p.Size)
			}
			size += p.Size
		}
		if size != f.Size {
			return nil, fmt.Errorf("%w: %s has %d octets, its parts %d", errDamaged, f.Name, f.Size, size)
		}
	}
	return files, nil
}

// timeForm is how a manifest's name tells its time, so that names sort by it.
const timeForm = "20060102T150405Z"

// keys are the names of a host's objects.
type keys struct{ base string } // "mail/mx1/"; "mx1/" without a prefix

// keysOf puts each host apart, so that a whole stack may share a bucket.
func keysOf(prefix, host string) keys {
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return keys{prefix + host + "/"}
}

func (k keys) manifests() string           { return k.base + "backups/" }
func (k keys) manifest(t time.Time) string { return k.manifests() + t.UTC().Format(timeForm) + ".json" }
func (k keys) objects() string             { return k.base + "objects/" }
func (k keys) object(s sum) string         { return k.objects() + s.String() }

// timeOf is the time in a manifest's name.
func (k keys) timeOf(key string) (time.Time, bool) {
	name, ok := strings.CutPrefix(key, k.manifests())
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(timeForm+".json", name)
	return t, err == nil && k.manifest(t) == key
}

// sumOf is the SHA-256 in an object's name.
func (k keys) sumOf(key string) (s sum, ok bool) {
	name, ok := strings.CutPrefix(key, k.objects())
	return s, ok && s.UnmarshalText([]byte(name)) == nil
}
