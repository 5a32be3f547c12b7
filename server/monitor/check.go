package monitor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailform/server/manifest"
)

// Facts are what is known of the host at one moment.
type Facts struct {
	DiskBytes, DiskFree int64 // of the store's file system; DiskBytes 0 is unknown
	StoreBytes          int64
	QueueLength         int
	QueueOldest         time.Time // when the oldest message that is not held was queued; zero: none
	Certificates        []Certificate
	Backup              *Backup  // nil: none are configured
	Damage              []string // what the store has found damaged
	Unwritable          error    // why nothing can be written beside the store; nil: it can
}

// Certificate is one that is served.
type Certificate struct {
	Name     string
	NotAfter time.Time
}

// Backup is how backups go.
type Backup struct {
	Every time.Duration
	Since time.Time // since when they are configured
	Last  time.Time // the newest; zero when there is none, or none is known
	Err   error     // of the last attempt
}

// The defaults of the settings that are not given, which are those of the spec.
const (
	defaultDiskFree    = 10
	defaultQueueAge    = 4 * time.Hour
	defaultCertificate = 14 * 24 * time.Hour
)

// Condition is something that is wrong with the host.
type Condition struct {
	Key   string // "disk", "queue", "certificate/mx1", "backup", "damage", "write"
	Title string // what is wrong, in a few words
	Found string // sentences: what was seen
	Means string // what follows from it
	Do    string // what a person should do
}

// Check compares the facts with the settings; nil settings are the defaults.
func Check(s *manifest.Monitor, f Facts, now time.Time) []Condition {
	if s == nil {
		s = &manifest.Monitor{}
	}
	var out []Condition
	add := func(c Condition) { out = append(out, c) }
	if f.Unwritable != nil {
		add(Condition{"write", "the mail store cannot be written",
			fmt.Sprintf("Writing beside the mail store failed: %v.", f.Unwritable),
			"No mail is accepted: other servers and mail programs are asked to come back later. What was stored is safe.",
			"Look at the disk: is it full (df -h), was its file system made read-only after an error (dmesg), is it there at all? Then restart mailformd."})
	}
	if len(f.Damage) > 0 {
		add(Condition{"damage", "stored mail is damaged",
			fmt.Sprintf("%d places in the mail store cannot be read as they were written:\n%s", len(f.Damage), listed(f.Damage)),
			"Messages in these places are lost or cannot be opened. The rest is not affected, and new mail is stored.",
			"The disk or its controller is failing more often than not: look at dmesg and the disk's health. What is lost may be in a backup: mailformd restore --to DIR brings one back beside the mail."})
	}
	wanted := s.DiskFreePercent
	if wanted == 0 {
		wanted = defaultDiskFree
	}
	if f.DiskBytes > 0 && f.DiskFree*100 < int64(wanted)*f.DiskBytes {
		add(Condition{"disk", "the disk is getting full",
			fmt.Sprintf("%s of %s are free, less than %d %%. The mail takes %s.", size(f.DiskFree), size(f.DiskBytes), wanted, size(f.StoreBytes)),
			"When it is full no mail is accepted any more, and other servers keep it for some days.",
			"Make the disk larger (system_disk or data_disk in the spec, then mailform apply), or let people delete mail."})
	}
	limit := seconds(s.QueueAgeSeconds, defaultQueueAge)
	if age := now.Sub(f.QueueOldest); !f.QueueOldest.IsZero() && age > limit {
		add(Condition{"queue", "mail waits too long to leave",
			fmt.Sprintf("%d messages wait for other servers, the oldest for %s.", f.QueueLength, long(age)),
			"Its sender is told after some hours, and it is returned after five days. If it is one destination, that server is at fault; if it is all, mail does not get out of here.",
			"mailformd queue list shows what each message waits for. If nothing gets out, look whether port 25 is open to the outside, and at the relay."})
	}
	limit = seconds(s.CertificateSeconds, defaultCertificate)
	for _, c := range f.Certificates {
		left := c.NotAfter.Sub(now)
		if left >= limit {
			continue
		}
		found := fmt.Sprintf("The certificate %s ends at %s, in %s.", c.Name, c.NotAfter.UTC().Format(time.RFC1123), long(left))
		if left <= 0 {
			found = fmt.Sprintf("The certificate %s has ended at %s.", c.Name, c.NotAfter.UTC().Format(time.RFC1123))
		}
		add(Condition{"certificate/" + c.Name, "certificate " + c.Name + " is about to end", found,
			"It should have been renewed by now. Once it has ended, mail programs refuse to connect or warn people, and servers that insist on TLS do not deliver here.",
			"Run mailform apply where the spec is, and see why the scheduled run does not: mailform status shows when the last one was."})
	}
	if b := f.Backup; b != nil && b.Every > 0 {
		from, have := b.Last, "The last backup was made at "+b.Last.UTC().Format(time.RFC1123)
		if b.Last.Before(b.Since) {
			from = b.Since
			if b.Last.IsZero() {
				have = "No backup was made since they were configured at " + b.Since.UTC().Format(time.RFC1123)
			}
		}
		if age := now.Sub(from); age > 2*b.Every {
			why := "."
			if b.Err != nil {
				why = fmt.Sprintf("; the last attempt failed: %v.", b.Err)
			}
			add(Condition{"backup", "there is no recent backup",
				fmt.Sprintf("%s, they are to be made every %s%s", have, long(b.Every), why),
				"If the disk is lost now, all mail since then is lost.",
				"mailformd backup now tries at once and shows what fails. Usual reasons: the access key has changed or may not write, the bucket is gone, the host cannot reach the service."})
		}
	}
	return out
}

func seconds(n int64, def time.Duration) time.Duration {
	if n == 0 {
		return def
	}
	return time.Duration(n) * time.Second
}

// maxListed bounds a list in a mail.
const maxListed = 10

func listed(lines []string) string {
	more := ""
	if n := len(lines) - maxListed; n > 0 {
		lines, more = slices.Clone(lines[:maxListed]), fmt.Sprintf("\n  and %d more", n)
	}
	return "  " + strings.Join(lines, "\n  ") + more
}

// size writes octets for people.
func size(n int64) string {
	units := []string{"octets", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d octets", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// long writes a duration for people.
func long(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d minutes", max(d, 0)/time.Minute)
}
