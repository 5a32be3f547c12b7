package store

import (
	"context"
	"math"
	"slices"
	"strings"
)

// UpdateFlags implements Store.
func (l *Log) UpdateFlags(ctx context.Context, account string, mailbox Box, uids []UID, how FlagOp, flags []string) ([]FlagState, error) {
	u, err := l.UpdateFlagsIf(ctx, account, mailbox, uids, how, flags, math.MaxUint64)
	return u.Messages, err
}

// UpdateFlagsIf implements Store.
func (l *Log) UpdateFlagsIf(ctx context.Context, account string, mailbox Box, uids []UID, how FlagOp, flags []string, unchanged ModSeq) (u FlagUpdate, err error) {
	mailbox, err = mailbox.clean()
	if err != nil {
		return u, err
	}
	uids, want := ascending(uids), canonicalList(flags)
	release, err := l.pin(account, mailbox)
	if err != nil {
		return u, err
	}
	defer release()
	err = l.do(ctx, func(t *txn) error {
		a, b, err := t.messages(account, mailbox)
		if err != nil {
			return err
		}
		o := &opFlags{Account: account, Box: b.id, ModSeq: a.modseq + 1}
		groups := map[string]int{}
		fresh := newKeywords{box: b}
		memo := flagMemo{how: how, want: want, flags: &l.ix.flags}
		u.Messages = make([]FlagState, 0, len(uids))
		for _, uid := range uids {
			s, ok := b.flags(uid)
			switch {
			case !ok:
				continue
			case s.ModSeq > unchanged:
				u.Modified = append(u.Modified, uid)
				continue
			}
			if after, key, changed := memo.change(s.Flags); changed {
				if err := fewEnough(s.Flags, after); err != nil {
					return err
				}
				g, ok := groups[key]
				if !ok {
					if err := fresh.take(after); err != nil {
						return err
					}
					g = len(o.Groups)
					groups[key] = g
					o.Groups = append(o.Groups, flagGroup{Flags: after})
				}
				o.Groups[g].UIDs = append(o.Groups[g].UIDs, uid)
				s.Flags, s.ModSeq = after, o.ModSeq
			}
			u.Messages = append(u.Messages, s)
		}
		fresh.done()
		for _, s := range u.Messages { // now that nothing refuses it any more
			if s.ModSeq == o.ModSeq {
				b.flag(s)
			}
		}
		if len(o.Groups) > 0 {
			a.modseq++
			u.ModSeq = o.ModSeq
			t.op(o)
		}
		return nil
	})
	if err != nil {
		return FlagUpdate{}, err
	}
	return u, nil
}

// flagMemo remembers the last change of flags: most messages have the same.
type flagMemo struct {
	how   FlagOp
	want  []string
	flags *flagTable

	have, after []string
	key         string
	changed     bool
	valid       bool
}

func (f *flagMemo) change(have []string) (after []string, key string, changed bool) {
	if f.valid && len(have) == len(f.have) && (len(have) == 0 || &have[0] == &f.have[0]) {
		return f.after, f.key, f.changed
	}
	f.valid, f.have = true, have
	f.after = changeFlags(have, f.how, f.want)
	if f.changed = !slices.Equal(f.after, have); f.changed {
		f.after = f.flags.intern(f.after)
		f.key = strings.Join(f.after, " ")
	}
	return f.after, f.key, f.changed
}
