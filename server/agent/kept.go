package agent

import (
	"bytes"
	"os"

	"mailform/server/manifest"
)

// kept is KeptFile: what is publicly known of keys that are on a data disk. While the
// disk is away, this is what there is: nothing says that the keys are gone.
type kept struct {
	DKIM         []manifest.DKIMPublic  `json:"dkim,omitempty"`
	Certificates []manifest.Certificate `json:"certificates,omitempty"`
}

// keysFound reads the keys of this host.
func (a *Agent) keysFound() (k kept, err error) {
	if k.DKIM, err = a.publicKeys(); err != nil {
		return k, err
	}
	k.Certificates, err = a.certificates()
	return k, err
}

// keysKnown is what is known of the keys of this host, wherever they are.
func (a *Agent) keysKnown() (k kept, err error) {
	away, err := a.keysAway()
	switch {
	case err != nil:
	case away:
		_, err = readJSON(a.Layout.KeptFile(), &k)
	default:
		k, err = a.keysFound()
	}
	return k, err
}

// noteKept writes down what is known of keys on a data disk.
func (a *Agent) noteKept() error {
	some, _, err := a.keysOnDisk()
	if err != nil || !some {
		return err
	}
	found, err := a.keysFound()
	if err != nil {
		return err
	}
	text, err := manifest.Encode(found)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(a.Layout.KeptFile()); err == nil && bytes.Equal(have, text) {
		return nil
	}
	return writeFile(a.Layout.KeptFile(), text, 0o644, -1)
}
