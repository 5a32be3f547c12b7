package agent

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"mailform/server/manifest"
)

// beginUse notes which signing keys are about to sign, before anything can be
// signed with them: a key without this note has never signed.
func (c *converge) beginUse(want *manifest.Manifest) error {
	signing := signingKeys(want)
	return c.noteUse(func(k keyName, use *manifest.KeyUse, now time.Time) string {
		if !slices.Contains(signing, k) || !use.SignsSince.IsZero() && use.SignedUntil.IsZero() {
			return ""
		}
		if use.SignedUntil = (time.Time{}); use.SignsSince.IsZero() {
			use.SignsSince = now
		}
		return "signs from now on"
	})
}

// endUse notes which signing keys sign no more, after the daemon has begun to
// serve the manifest: no signature is younger than the note says.
func (c *converge) endUse(want *manifest.Manifest) error {
	signing := signingKeys(want)
	return c.noteUse(func(k keyName, use *manifest.KeyUse, now time.Time) string {
		if slices.Contains(signing, k) || use.SignsSince.IsZero() || !use.SignedUntil.IsZero() {
			return ""
		}
		use.SignedUntil = now
		return "signs no more"
	})
}

func (c *converge) noteUse(note func(keyName, *manifest.KeyUse, time.Time) string) error {
	keys, err := c.a.publicKeys()
	if err != nil {
		return err
	}
	now := c.a.Now().UTC().Truncate(time.Second)
	for _, k := range keys {
		use := manifest.KeyUse{SignsSince: k.SignsSince, SignedUntil: k.SignedUntil}
		detail := note(keyName{k.Domain, k.Selector}, &use, now)
		if detail == "" {
			continue
		}
		if err := writeJSON(c.a.Layout.DKIMUse(k.Domain, k.Selector), use, 0o644); err != nil {
			return err
		}
		c.step("signing key "+k.Selector+" of "+k.Domain, "changed", detail)
	}
	return nil
}

// useDrift lists the keys of which an interrupted converge did not note that they
// sign, or sign no more.
func useDrift(m *manifest.Manifest, keys []manifest.DKIMPublic) []string {
	signing := signingKeys(m)
	var out []string
	for _, k := range keys {
		signs := slices.Contains(signing, keyName{k.Domain, k.Selector})
		if signs != (!k.SignsSince.IsZero() && k.SignedUntil.IsZero()) && (signs || !k.SignsSince.IsZero()) {
			out = append(out, "since when the signing key "+k.Selector+" of "+k.Domain+" is in use is not noted")
		}
	}
	return out
}

type keyName struct{ domain, selector string }

// signingKeys are the keys that a manifest signs with.
func signingKeys(m *manifest.Manifest) []keyName {
	var out []keyName
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
