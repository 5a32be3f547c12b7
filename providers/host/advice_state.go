package host

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
)

// clockTolerance is by how much a host's clock may differ from ours, in seconds:
// signatures, certificates and one-time passwords forgive that much.
const clockTolerance = 60

// noteClock compares a host's clock with ours: it was read between asked and answered.
func noteClock(f *manifest.Facts, asked, answered time.Time) {
	f.AheadSeconds = 0 // no host says this of itself
	switch {
	case f.Now.Before(asked):
		f.AheadSeconds = -int64(asked.Sub(f.Now) / time.Second)
	case f.Now.After(answered):
		f.AheadSeconds = int64(f.Now.Sub(answered) / time.Second)
	}
}

// byOurClock gives what a key has gone through the times of this machine, where the
// host's clock is wrong: by it, a key would be a year old that was made just now, and
// rotated with every run.
func byOurClock(k manifest.DKIMPublic, ahead int64) manifest.DKIMPublic {
	if ahead <= clockTolerance && ahead >= -clockTolerance {
		return k
	}
	for _, t := range []*time.Time{&k.Created, &k.SignsSince, &k.SignedUntil} {
		if !t.IsZero() {
			*t = t.Add(-time.Duration(ahead) * time.Second)
		}
	}
	return k
}

// clockNow is the clock that those of the hosts are compared with.
func (p *Provider) clockNow() time.Time {
	if p.HostNow != nil {
		return p.HostNow()
	}
	return p.Now()
}

// adviseState is advice about the machine's own state.
func adviseState(host string, f *manifest.Facts) []plan.Advice {
	var out []plan.Advice
	add := func(code, title, text string) {
		out = append(out, plan.Advice{Code: code, About: "host " + host, Title: title, Text: text})
	}
	const keep = "Signatures and certificates are not valid when it is wrong, and mail gets wrong dates. "
	switch off := f.AheadSeconds; {
	case off > clockTolerance || off < -clockTolerance:
		direction := "ahead of"
		if off < 0 {
			off, direction = -off, "behind"
		}
		add(adviceClockOff, fmt.Sprintf("its clock is %s %s this machine's", time.Duration(off)*time.Second, direction),
			keep+"Look which of them is right (timedatectl). On the host, `timedatectl set-ntp true` or chrony keeps it right; NTP needs outbound UDP port 123.")
	case f.Clock != nil && !f.Clock.Synchronized:
		add(adviceUnsynced, "its clock is not synchronized",
			keep+"It is right now, and will drift. On the host, `timedatectl set-ntp true` or chrony keeps it right; NTP needs outbound UDP port 123. After a start it takes some minutes.")
	}
	for _, w := range f.Walls {
		if len(w.Closed) == 0 {
			continue
		}
		var words []string
		for _, p := range w.Closed {
			words = append(words, strconv.Itoa(p))
		}
		open := "ufw allow proto tcp to any port " + strings.Join(words, ",")
		if w.Name == "firewalld" {
			open = "firewall-cmd --permanent --add-port={" + strings.Join(words, ",") + "}/tcp && firewall-cmd --reload"
			if len(words) == 1 {
				open = "firewall-cmd --permanent --add-port=" + words[0] + "/tcp && firewall-cmd --reload"
			}
		}
		add(adviceWall, w.Name+" does not let in "+strings.Join(words, ", "),
			"It is the machine's own firewall, which mailform leaves as it is: mail programs and other servers are kept out. On the host:\n"+open)
	}
	if k := f.StoreKey; k != nil && k.Fingerprint != "" && !k.Saved {
		add(adviceStoreKey, "the key of its mail is nowhere but on this host",
			"The mail is encrypted with the storage key "+k.Fingerprint+", which is in no backup: when the host is lost, so is the mail, with every backup of it. Take a copy, and keep it where the backups are not:\nmailform storage-key export "+host+" --out FILE")
	}
	if r := f.Reverted; r != nil {
		add(adviceReverted, "the last change was taken back at "+r.Time.UTC().Format("2006-01-02 15:04:05 UTC"),
			"Why: "+r.Why+".\nThe host is as it was before that change. `mailform plan` shows what is still to do, `mailform logs "+host+"` what happened. This is said until a change succeeds.")
	}
	return out
}
