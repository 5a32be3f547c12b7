package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailform/plan"
	"mailform/plan/style"
	"mailform/server/manifest"
)

// Below these a person should look: in percent of a disk, and of what a backup may
// be late by.
const (
	littleFree  = 10
	lateBackups = 2
)

// showHost is a host for people: one line for each thing, in colour where something
// is as it should be or is not.
func (a *app) showHost(v hostView) {
	sheet := a.term.outStyle
	row := func(name, text string, paint func(string) string) {
		fmt.Fprintf(a.term.out, "  %s  %s\n", sheet.Dim(style.Pad(name, 11)), paint(style.Clean(text)))
	}
	plain := func(s string) string { return s }
	good := func(ok bool) func(string) string {
		if ok {
			return sheet.Green
		}
		return sheet.Red
	}
	unless := func(trouble bool) func(string) string { // only trouble has a colour
		if trouble {
			return sheet.Yellow
		}
		return plain
	}
	fmt.Fprintln(a.term.out, sheet.Bold(v.Name)+"  "+v.Hostname)
	switch {
	case v.Address == "":
		row("reachable", "no: it has no address yet", good(false))
		return
	case !v.Reachable:
		row("reachable", "no, at "+v.Address, good(false))
		return
	}
	row("reachable", "yes, at "+v.Address, good(true))
	if v.Version == "" {
		row("mailformd", "not installed", good(false))
		return
	}
	system := v.System
	if v.UpSeconds > 0 {
		system += ", up for " + plan.Until(time.Duration(v.UpSeconds)*time.Second)
	}
	row("system", system, plain)
	for _, d := range v.Disks {
		name := "disk"
		if len(v.Disks) > 1 {
			name = d.What + " disk"
		}
		row(name, fmt.Sprintf("%d %% free: %s of %s", d.FreePercent, bytesText(d.FreeBytes), bytesText(d.Bytes)), unless(d.FreePercent < littleFree))
	}
	if m := v.Memory; m != nil {
		row("memory", fmt.Sprintf("%s of %s available", bytesText(m.AvailableBytes), bytesText(m.Bytes)), unless(m.AvailableBytes*littleFree < m.Bytes))
	}
	row("mailformd", v.Version, plain)
	service := v.Service
	if v.Since != nil {
		service += " since " + v.Since.Format("2006-01-02 15:04") + " UTC"
	}
	row("service", service, good(v.Serving))
	if len(v.Ports) > 0 {
		row("ports", strings.Trim(fmt.Sprint(v.Ports), "[]"), plain)
	}
	if len(v.Certificates) == 0 {
		row("certificate", "none", good(false))
	}
	for _, c := range v.Certificates {
		row("certificate", c.text(v), good(c.NotAfter.After(v.now)))
	}
	for _, k := range v.SigningKeys {
		row("dkim", k.text(v.now), plain)
	}
	if v.Queue != nil {
		text := count(*v.Queue, "message") + " waiting"
		if v.QueueOldest != nil {
			text += ", the oldest for " + plan.Until(v.now.Sub(*v.QueueOldest))
		}
		row("queue", text, plain)
	}
	if v.Port25 != "" {
		row("port 25 out", map[string]string{manifest.Port25Open: "open", manifest.Port25Closed: "closed", manifest.Port25Relay: "not needed: mail goes through the relay"}[v.Port25],
			unless(v.Port25 == manifest.Port25Closed))
	}
	for _, r := range v.Reverse {
		text := r.Address + " has no name"
		if len(r.Names) > 0 {
			text = r.Address + " is " + strings.Join(r.Names[:min(3, len(r.Names))], ", ")
		}
		if r.Matches {
			text = r.Address + " is " + v.Hostname
		}
		row("reverse dns", text, unless(!r.Matches && v.Port25 != manifest.Port25Relay))
	}
	listed := 0
	for _, l := range v.Blocklists {
		if l.Listed {
			listed++
			row("blocklist", l.Address+" is on "+l.List, unless(v.Port25 != manifest.Port25Relay))
		}
	}
	if all := len(v.Blocklists); all > 0 && listed == 0 {
		row("blocklists", "on none of "+count(all, "list"), plain)
	}
	if e := v.Encryption; e != nil && e.On && (e.Complete == nil || !*e.Complete) {
		row("encryption", e.text(v), unless(e.StuckFiles > 0))
	}
	if v.Banned > 0 {
		row("banned", count(v.Banned, "client")+": mailform bans", plain)
	}
	row("mailboxes", fmt.Sprint(v.Mailboxes), plain)
	for _, r := range v.Retired {
		row("retired", fmt.Sprintf("%s, its mail is kept for %s more", r.Address, count(r.DaysLeft, "day")), plain)
	}
	switch late := time.Duration(lateBackups*v.BackupEvery) * time.Second; {
	case v.LastBackup != nil:
		row("last backup", fmt.Sprintf("%s UTC (%s ago)", v.LastBackup.Format("2006-01-02 15:04"), plan.Until(v.now.Sub(*v.LastBackup))),
			unless(late > 0 && v.now.Sub(*v.LastBackup) > late))
	case v.BackupEvery > 0:
		row("last backup", "none yet", unless(true))
	}
	for _, alert := range v.Alerts {
		row("alert", alert, good(false))
	}
}

// text is a certificate on one line.
func (c certificateView) text(v hostView) string {
	left := count(c.DaysLeft, "day") + " left"
	switch {
	case c.NotAfter.Before(v.now):
		left = "expired"
	case c.Renews.After(v.now):
		left += ", renews in " + plan.Until(c.Renews.Sub(v.now))
	default:
		left += ", renewal is due: mailform apply"
	}
	names := v.Hostname
	if others := slices.DeleteFunc(slices.Clone(c.Names), func(n string) bool { return n == v.Hostname }); len(others) == len(c.Names) {
		names = strings.Join(c.Names, " ")
	} else if len(others) > 0 {
		names += " and " + count(len(others), "more name")
	}
	return fmt.Sprintf("%s, until %s (%s)", names, c.NotAfter.Format(time.DateOnly), left)
}

// text says how far encryption has come that is not complete.
func (e encryptionView) text(v hostView) string {
	if e.Complete == nil {
		return "on; how much of the mail from before is in the clear is being found out"
	}
	text := bytesText(e.ClearBytes) + " in " + count(e.ClearFiles, "file") + " still in the clear"
	if e.ClearFiles > e.StuckFiles {
		left := plan.Until(time.Duration(e.SecondsLeft) * time.Second)
		if minutes := int(e.SecondsLeft+59) / 60; minutes < 120 {
			left = count(max(1, minutes), "minute")
		}
		text += ", done in about " + left
	}
	if e.StuckFiles > 0 {
		text += "; damage keeps " + count(e.StuckFiles, "file") + " from it: mailform ssh " + v.Name + " -- mailformd store check"
	}
	return text
}

// text is a signing key on one line.
func (k signingKeyView) text(now time.Time) string {
	text := fmt.Sprintf("%s._domainkey.%s, %s, %s old", k.Selector, k.Domain, k.Algorithm, count(k.AgeDays, "day"))
	switch {
	case !k.Signs:
		return text + ", does not sign"
	case k.Rotates != nil && k.Rotates.After(now):
		return text + ", rotates in " + plan.Until(k.Rotates.Sub(now))
	case k.Rotates != nil:
		return text + ", rotation is due: mailform apply"
	}
	return text
}

// bytesText writes octets for people.
func bytesText(n int64) string {
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
