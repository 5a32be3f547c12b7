package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
	"mailform/plan/style"
)

func (a *app) statusCommand() *cobra.Command {
	var (
		stack  stackFlags
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "status [FOLDER]",
		Short: "ask every host how it is; changes nothing",
		Long: `status connects to every host of the spec and prints what it says about itself:
version, service, certificate, queue and mailboxes. It ends with 1 when a host
cannot be reached or does not serve mail.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			opts, err := stack.options(args)
			if err != nil {
				return err
			}
			opts.ReadOnly = true
			s, err := session.Open(a.env, opts)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			sink, done := a.readingSink(asJSON)
			hosts, err := s.Status(ctx, sink)
			done()
			if err != nil {
				return interrupted(ctx, err)
			}
			views := make([]hostView, len(hosts))
			well := true
			for i, h := range hosts {
				views[i] = viewHost(h)
				well = well && views[i].Serving
			}
			if asJSON {
				err = writeStatusJSON(a.term.out, s.Spec.Stack.Name, views)
			} else {
				for i, v := range views {
					if i > 0 {
						fmt.Fprintln(a.term.out)
					}
					a.showHost(v)
				}
			}
			if err != nil {
				return err
			}
			var failed []error
			for _, h := range hosts {
				failed = append(failed, h.Err)
			}
			if err := errors.Join(failed...); err != nil {
				return err
			}
			if !well {
				return &codeError{code: exitError}
			}
			return nil
		},
	}
	stack.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return c
}

// hostView is a host in the document of `status --json`. Times are RFC 3339 in UTC.
type hostView struct {
	Name         string            `json:"name"`         // of the host in the spec
	Hostname     string            `json:"hostname"`     // its name in DNS
	Address      string            `json:"address"`      // "" while it has none
	Reachable    bool              `json:"reachable"`    // over SSH
	Serving      bool              `json:"serving"`      // reachable, and the service is active and answers
	System       string            `json:"system"`       // "debian 12 amd64"
	Version      string            `json:"version"`      // of the installed mailformd; "" without one
	Service      string            `json:"service"`      // systemd's ActiveState; "" without one
	Since        *time.Time        `json:"since"`        // when the server started; null when it does not run
	Ports        []int             `json:"ports"`        // that listen
	Certificates []certificateView `json:"certificates"` // installed
	Queue        *int              `json:"queue"`        // messages waiting for other hosts; null when the server does not run
	Mailboxes    int               `json:"mailboxes"`    // how many are served
	LastBackup   *time.Time        `json:"last_backup"`  // null when there is none
	Alerts       []string          `json:"alerts"`       // what is wrong at the moment, in words

	now time.Time // the host's clock
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

func viewHost(h session.HostStatus) hostView {
	v := hostView{Name: h.Name, Hostname: h.Hostname, Address: h.Address, Ports: []int{}, Certificates: []certificateView{}, Mailboxes: h.Mailboxes, Alerts: []string{}}
	v.Reachable = h.Err == nil && h.Address != ""
	f := h.Facts
	if f == nil {
		return v
	}
	v.System, v.now = strings.TrimSpace(f.OS+" "+f.OSVersion+" "+f.Arch), f.Now
	v.Version, v.Service = f.Agent.Version, f.Service.Active
	v.Ports = append(v.Ports, f.Service.Ports...)
	for i, c := range f.Certificates {
		r := h.Renewals[i]
		v.Certificates = append(v.Certificates, certificateView{c.Name, c.Names, c.NotAfter.UTC(), int(c.NotAfter.Sub(f.Now).Hours() / 24), r.At.UTC(), r.Why})
	}
	if s := h.Server; s != nil {
		since, queue := s.Started.UTC(), s.Queue
		v.Since, v.Queue, v.Serving = &since, &queue, v.Reachable
		v.Alerts = append(v.Alerts, s.Alerts...)
		if at := s.LastBackup.UTC(); !s.LastBackup.IsZero() {
			v.LastBackup = &at
		}
	}
	return v
}

// statusDocument is the document of mailform status --json.
type statusDocument struct {
	FormatVersion int        `json:"format_version"` // 1
	Stack         string     `json:"stack"`          // its name
	Hosts         []hostView `json:"hosts"`          // in the spec's order
}

func writeStatusJSON(w io.Writer, stack string, hosts []hostView) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(statusDocument{1, stack, hosts})
}

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
	row("system", v.System, plain)
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
		row("certificate", fmt.Sprintf("%s, until %s (%s)", names, c.NotAfter.Format(time.DateOnly), left), good(c.NotAfter.After(v.now)))
	}
	if v.Queue != nil {
		row("queue", count(*v.Queue, "message")+" waiting", plain)
	}
	row("mailboxes", fmt.Sprint(v.Mailboxes), plain)
	if v.LastBackup != nil {
		row("last backup", v.LastBackup.Format("2006-01-02 15:04")+" UTC", plain)
	}
	for _, alert := range v.Alerts {
		row("alert", alert, good(false))
	}
}
