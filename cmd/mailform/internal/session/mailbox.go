package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailform/apply"
	"mailform/plan"
	"mailform/server/manifest"
)

// RetainedMailbox is a mailbox that was removed and whose mail its host keeps.
type RetainedMailbox struct {
	Host     string
	Address  string
	Since    time.Time
	DaysLeft int
}

// Retained lists the removed mailboxes whose mail is kept, by address.
func (s *Session) Retained(ctx context.Context, sink apply.Sink) ([]RetainedMailbox, error) {
	if _, err := s.Plan(ctx, PlanOptions{Differences: true}, sink); err != nil {
		return nil, err
	}
	var out []RetainedMailbox
	for host, list := range s.hosts.Retained() {
		for _, r := range list {
			out = append(out, RetainedMailbox{host, r.Address, r.Since.UTC(), r.DaysLeft(s.env.Now())})
		}
	}
	slices.SortFunc(out, func(a, b RetainedMailbox) int {
		return strings.Compare(a.Address+"\x00"+a.Host, b.Address+"\x00"+b.Host)
	})
	return out, nil
}

// RestoreMailbox puts a removed mailbox back on its host. The lock must be held.
func (s *Session) RestoreMailbox(ctx context.Context, mailbox string) (manifest.Restored, error) {
	r, err := s.Kept(ctx, "restore", mailbox)
	if err != nil {
		return manifest.Restored{}, err
	}
	return s.hosts.RestoreMailbox(ctx, r.Host, mailbox)
}

// EraseMailbox erases a removed mailbox's mail, which Kept has found. The lock must be held.
func (s *Session) EraseMailbox(ctx context.Context, r RetainedMailbox) (manifest.Erased, error) {
	return s.hosts.EraseMailbox(ctx, r.Host, r.Address)
}

// Kept finds the removed mailbox of that address, for what the word says.
func (s *Session) Kept(ctx context.Context, do, mailbox string) (RetainedMailbox, error) {
	list, err := s.Retained(ctx, nil)
	if err != nil {
		return RetainedMailbox{}, err
	}
	var known []string
	for _, r := range list {
		if r.Address == mailbox {
			return r, nil
		}
		known = append(known, r.Address)
	}
	e := &plan.Error{Code: "MF4021", Step: do + " " + mailbox, Got: "no host keeps mail of a removed mailbox of that name", Fix: "mailform mailbox list shows what is kept."}
	if len(known) > 0 {
		e.Got += fmt.Sprintf("; there is %s", strings.Join(known[:min(len(known), 5)], ", "))
	}
	return RetainedMailbox{}, e
}
