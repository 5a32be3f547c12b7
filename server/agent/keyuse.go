package agent

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"mailform/server/manifest"
)

// keyUse notes when signing keys began and ceased to sign. It comes after the
// daemon serves the manifest, so that no signature is younger than the note
// says; what an interrupted converge did not note, the next one does, later.
func (c *converge) keyUse(old, want *manifest.Manifest) error {
	signing, signed := signingKeys(want), signingKeys(old)
	keys, err := c.a.publicKeys()
	if err != nil {
		return err
	}
	now := c.a.Now().UTC().Truncate(time.Second)
	for _, k := range keys {
		name := keyName{k.Domain, k.Selector}
		before := manifest.KeyUse{SignsSince: k.SignsSince, SignedUntil: k.SignedUntil}
		use := before
		switch {
		case slices.Contains(signing, name):
			use.SignedUntil = time.Time{}
			if use.SignsSince.IsZero() {
				use.SignsSince = now
			}
		case use.SignsSince.IsZero() && slices.Contains(signed, name):
			use.SignsSince, use.SignedUntil = now, now
		case !use.SignsSince.IsZero() && use.SignedUntil.IsZero():
			use.SignedUntil = now
		}
		if use == before {
			continue
		}
		if err := writeJSON(c.a.Layout.DKIMUse(k.Domain, k.Selector), use, 0o644); err != nil {
			return err
		}
		detail := "signs from now on"
		if !use.SignedUntil.IsZero() {
			detail = "signs no more"
		}
		c.step("signing key "+k.Selector+" of "+k.Domain, "changed", detail)
	}
	return nil
}

type keyName struct{ domain, selector string }

// signingKeys are the keys that a manifest signs with.
func signingKeys(m *manifest.Manifest) []keyName {
	var out []keyName
	if m == nil {
		return nil
	}
	for _, d := range m.Domains {
		for _, k := range d.DKIM {
			if !k.Idle {
				out = append(out, keyName{d.Name, k.Selector})
			}
		}
	}
	return out
}

// forgetUse takes the note away with its key.
func (a *Agent) forgetUse(domain, selector string) error {
	err := os.Remove(a.Layout.DKIMUse(domain, selector))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
