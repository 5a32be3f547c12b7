package main

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
	"mailform/server/manifest"
)

// statusDocument is the document of mailform status --json.
type statusDocument struct {
	FormatVersion int           `json:"format_version"` // 1
	Stack         string        `json:"stack"`          // its name
	Hosts         []hostView    `json:"hosts"`          // in the spec's order
	Drift         *driftView    `json:"drift"`          // null when it was not looked for: with --no-drift, and when a host does not serve
	Advice        []plan.Advice `json:"advice"`         // what a person should do, because mailform cannot
}

// driftView says how far the world is from the spec.
type driftView struct {
	Differences *int   `json:"differences"` // 0: none; null when that cannot be told
	Error       string `json:"error"`       // why it cannot be told
}

// hostView is a host in the document of `status --json`. Times are RFC 3339 in UTC.
type hostView struct {
	Name         string            `json:"name"`                 // of the host in the spec
	Hostname     string            `json:"hostname"`             // its name in DNS
	Address      string            `json:"address"`              // "" while it has none
	Reachable    bool              `json:"reachable"`            // over SSH
	Serving      bool              `json:"serving"`              // reachable, and the service is active and answers
	System       string            `json:"system"`               // "debian 12 amd64"
	UpSeconds    int64             `json:"up_seconds"`           // since the machine has booted; 0 is unknown
	Disks        []diskView        `json:"disks"`                // the system's, and the mail's when it has one of its own
	Memory       *memoryView       `json:"memory"`               // null when it is not known
	Version      string            `json:"version"`              // of the installed mailformd; "" without one
	Service      string            `json:"service"`              // systemd's ActiveState; "" without one
	Since        *time.Time        `json:"since"`                // when the server started; null when it does not run
	Ports        []int             `json:"ports"`                // that listen
	Certificates []certificateView `json:"certificates"`         // installed
	SigningKeys  []signingKeyView  `json:"signing_keys"`         // for DKIM
	Queue        *int              `json:"queue"`                // messages waiting for other hosts; null when the server does not run
	QueueOldest  *time.Time        `json:"queue_oldest"`         // since when the oldest of them waits; null when none does
	Port25       string            `json:"port_25"`              // whether other mail servers can be reached: "open", "closed", "relay" (nobody needs it) or "" (not known)
	Reverse      []reverseView     `json:"reverse"`              // what the hostname's addresses lead back to
	Blocklists   []listedView      `json:"blocklists"`           // what blocklists say of its IPv4 addresses, as far as they answer
	Mailboxes    int               `json:"mailboxes"`            // how many are served
	Retired      []retiredView     `json:"retired"`              // mailboxes that were removed and whose mail is kept
	LastBackup   *time.Time        `json:"last_backup"`          // null when there is none
	BackupEvery  int64             `json:"backup_every_seconds"` // 0: no backups are configured
	Encryption   *encryptionView   `json:"encryption"`           // of stored mail; null when the server does not run
	Banned       int               `json:"banned"`               // clients that the host's own firewall drops; see mailform bans
	Alerts       []string          `json:"alerts"`               // what is wrong at the moment, in words

	now time.Time // the host's clock
}

// diskView is a file system in it.
type diskView struct {
	What        string `json:"what"`         // "system" or "mail"
	Bytes       int64  `json:"bytes"`        // its size
	FreeBytes   int64  `json:"free_bytes"`   // what is free of it
	FreePercent int    `json:"free_percent"` // the same in percent
}

// memoryView is the memory in it.
type memoryView struct {
	Bytes          int64 `json:"bytes"`           // of the machine
	AvailableBytes int64 `json:"available_bytes"` // that programs could still get
}

// encryptionView is how far stored mail is encrypted, in it.
type encryptionView struct {
	On          bool  `json:"on"`           // what comes is encrypted
	Complete    *bool `json:"complete"`     // nothing is in the clear; null while that is not known, and when it is off
	ClearBytes  int64 `json:"clear_bytes"`  // of files with anything in the clear
	ClearFiles  int   `json:"clear_files"`  // how many those are
	StuckFiles  int   `json:"stuck_files"`  // those of them that are damaged and stay as they are
	SecondsLeft int64 `json:"seconds_left"` // until the others are done, about
}

// certificateView is a certificate in it.
type certificateView struct {
	Name     string    `json:"name"`      // of the certificate in the spec
	Names    []string  `json:"names"`     // in DNS
	NotAfter time.Time `json:"not_after"` // when it expires, RFC 3339 in UTC
	DaysLeft int       `json:"days_left"` // below 0 once it has expired
	Renews   time.Time `json:"renews"`    // when an apply renews it, RFC 3339 in UTC; in the past when that is due
	Why      string    `json:"why"`       // who chose that time, for people
}

// signingKeyView is a DKIM key in it.
type signingKeyView struct {
	Domain    string     `json:"domain"`    // it signs for
	Selector  string     `json:"selector"`  // its name in DNS
	Algorithm string     `json:"algorithm"` // "rsa2048", "rsa4096" or "ed25519"
	Signs     bool       `json:"signs"`     // whether it signs now
	AgeDays   int        `json:"age_days"`  // since it was made
	Rotates   *time.Time `json:"rotates"`   // when the next key takes its place, at the earliest; null when that is not planned
}

// reverseView is an address in it.
type reverseView struct {
	Address string   `json:"address"` // of the hostname
	Names   []string `json:"names"`   // of its PTR records
	Matches bool     `json:"matches"` // the hostname is one of them
}

// listedView is what a blocklist says of an address in it.
type listedView struct {
	Address string `json:"address"` // an IPv4 address of the hostname
	List    string `json:"list"`    // the blocklist's DNS zone
	Listed  bool   `json:"listed"`  // the address is on it
}

// retiredView is a removed mailbox in it.
type retiredView struct {
	Address  string    `json:"address"`   // the mailbox
	Since    time.Time `json:"since"`     // when it was removed
	DaysLeft int       `json:"days_left"` // until its mail is deleted
}

func viewHost(h session.HostStatus) hostView {
	v := hostView{
		Name: h.Name, Hostname: h.Hostname, Address: h.Address, Ports: []int{}, Disks: []diskView{}, Certificates: []certificateView{}, SigningKeys: []signingKeyView{},
		Reverse: []reverseView{}, Blocklists: []listedView{}, Mailboxes: h.Mailboxes, Retired: []retiredView{}, Alerts: []string{},
	}
	v.Reachable = h.Err == nil && h.Address != ""
	f := h.Facts
	if f == nil {
		return v
	}
	v.System, v.now, v.UpSeconds = strings.TrimSpace(f.OS+" "+f.OSVersion+" "+f.Arch), f.Now, f.UpSeconds
	v.Version, v.Service = f.Agent.Version, f.Service.Active
	v.Ports = append(v.Ports, f.Service.Ports...)
	v.Banned = f.Banned
	for _, d := range f.Disks {
		if d.Bytes > 0 {
			v.Disks = append(v.Disks, diskView{d.What, d.Bytes, d.FreeBytes, int(100 * float64(d.FreeBytes) / float64(d.Bytes))})
		}
	}
	if f.Memory != nil {
		v.Memory = &memoryView{f.Memory.Bytes, f.Memory.AvailableBytes}
	}
	for i, c := range f.Certificates {
		r := h.Renewals[i]
		v.Certificates = append(v.Certificates, certificateView{c.Name, c.Names, c.NotAfter.UTC(), int(c.NotAfter.Sub(f.Now).Hours() / 24), r.At.UTC(), r.Why})
	}
	v.SigningKeys = append(v.SigningKeys, viewKeys(f, h.Rotate)...)
	for _, r := range f.Retained {
		v.Retired = append(v.Retired, retiredView{r.Address, r.Since.UTC(), r.DaysLeft(f.Now)})
	}
	if s := h.Server; s != nil {
		v.viewServer(s)
	}
	return v
}

func (v *hostView) viewServer(s *manifest.Status) {
	since, queue := s.Started.UTC(), s.Queue
	v.Since, v.Queue, v.Serving, v.BackupEvery = &since, &queue, v.Reachable, s.BackupEverySeconds
	v.Alerts = append(v.Alerts, s.Alerts...)
	v.Encryption = &encryptionView{}
	if e := s.Encryption; e != nil {
		v.Encryption = &encryptionView{On: true, ClearBytes: e.ClearOctets, ClearFiles: e.ClearFiles, StuckFiles: e.StuckFiles, SecondsLeft: e.SecondsLeft}
		if complete := e.ClearFiles == 0; e.Looked {
			v.Encryption.Complete = &complete
		}
	}
	if at := s.LastBackup.UTC(); !s.LastBackup.IsZero() {
		v.LastBackup = &at
	}
	if at := s.QueueOldest.UTC(); !s.QueueOldest.IsZero() {
		v.QueueOldest = &at
	}
	if r := s.Reach; r != nil {
		v.Port25 = r.Port25
		for _, a := range r.Addresses {
			if a.Known {
				v.Reverse = append(v.Reverse, reverseView{a.Address, append([]string{}, a.Names...), slices.Contains(a.Names, strings.ToLower(v.Hostname))})
			}
			for _, list := range a.Listed {
				v.Blocklists = append(v.Blocklists, listedView{a.Address, list, true})
			}
			for _, list := range a.NotListed {
				v.Blocklists = append(v.Blocklists, listedView{a.Address, list, false})
			}
		}
	}
}

// viewKeys are the signing keys of a host; rotate is how long one signs, by domain.
func viewKeys(f *manifest.Facts, rotate map[string]time.Duration) []signingKeyView {
	var out []signingKeyView
	for _, k := range f.DKIM {
		key := signingKeyView{Domain: k.Domain, Selector: k.Selector, Algorithm: k.Algorithm, AgeDays: int(f.Now.Sub(k.Created).Hours() / 24)}
		key.Signs = f.Manifest != nil && slices.ContainsFunc(f.Manifest.Domains, func(d manifest.Domain) bool {
			return d.Name == k.Domain && slices.ContainsFunc(d.DKIM, func(s manifest.DKIMKey) bool { return s.Selector == k.Selector && !s.Idle })
		})
		if every := rotate[k.Domain]; key.Signs && every > 0 && !k.SignsSince.IsZero() {
			at := k.SignsSince.Add(every).UTC()
			key.Rotates = &at
		}
		out = append(out, key)
	}
	return out
}

func writeStatusJSON(w io.Writer, doc statusDocument) error {
	if doc.Advice == nil {
		doc.Advice = []plan.Advice{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}
