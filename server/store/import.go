package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mailform/server/store/seal"
)

// Import implements Store.
func (l *Log) Import(ctx context.Context, account string, list []Incoming) (out []*Message, err error) {
	if _, err := l.reading(account); err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, in := range list {
		if names[i], err = cleanName(in.Mailbox); err != nil {
			return nil, err
		}
		if !validObjectID(in.ObjectID) {
			return nil, fmt.Errorf("message %d: %q is no object id", i, in.ObjectID)
		}
	}
	bodies, objects := make([]*body, len(list)), make([]string, len(list))
	defer func() {
		for _, x := range bodies {
			if x == nil {
				continue
			}
			if err == nil {
				err = l.keep(x)
			} else {
				err = errors.Join(err, l.discard(x))
			}
		}
	}()
	for i, in := range list {
		if in.Body == nil {
			continue
		}
		if objects[i] = in.ObjectID; objects[i] == "" {
			objects[i] = l.reserve()
		}
		if bodies[i], err = l.accept(in.Body, in.Size, belonging{[]string{account}, seal.PartBody, objects[i]}); err != nil {
			return nil, err
		}
	}
	err = l.do(ctx, func(t *txn) error {
		a, err := t.account(account)
		if err != nil {
			return err
		}
		if err := t.readable(bodies...); err != nil {
			return err
		}
		var wanted Quota
		for _, x := range bodies {
			if x != nil {
				wanted = wanted.plus(Quota{x.size(), 1})
			}
		}
		if err := t.room(a, wanted.Bytes, wanted.Messages); err != nil {
			return err
		}
		out = make([]*Message, len(list))
		for i, in := range list {
			b := a.box(names[i])
			if b == nil {
				for _, name := range append(parents(names[i]), names[i]) {
					if a.box(name) == nil {
						b = t.create(a, name, "")
						t.subscribe(a, name, true)
					}
				}
			}
			if bodies[i] == nil {
				continue
			}
			id := objects[i]
			if id == "" {
				id = t.objectID("", i)
			}
			out[i] = &Message{Flags: t.fit(b, l.ix.flags.intern(canonicalList(in.Flags))), InternalDate: dateOr(in.InternalDate, t.now), Body: t.put(bodies[i]), ObjectID: id}
			t.append(a, b, out[i])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func validObjectID(id string) bool {
	return len(id) <= 255 && !slices.ContainsFunc([]byte(id), func(c byte) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}
