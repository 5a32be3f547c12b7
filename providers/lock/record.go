package lock

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"mailform/plan"
)

// recordFormat is the version of record.
const recordFormat = 1

// maxRecord bounds what is read of an object, in bytes; maxTTL a lease.
const (
	maxRecord = 16 << 10
	maxTTL    = 10 * time.Minute
)

// errRecord says that an object is not a record of a lock that we know.
var errRecord = errors.New("this is not a lock of mailform's, or of a newer one")

// record is what an object of the lock holds.
type record struct {
	Format  int         `json:"format"`
	ID      string      `json:"id"`
	Free    bool        `json:"free,omitempty"` // it was given back
	Seconds int64       `json:"ttl_seconds"`
	Holder  plan.Holder `json:"holder"`

	age time.Duration // by the service's clock; 0 when it does not tell
}

func recordOf(l plan.Lease) record {
	return record{Format: recordFormat, ID: l.ID, Seconds: int64(l.TTL / time.Second), Holder: l.Holder}
}

func (r record) ttl() time.Duration { return time.Duration(r.Seconds) * time.Second }

// live reports whether somebody may still rely on it.
func (r record) live() bool { return !r.Free && r.age <= r.ttl()+grace }

func (r record) lease(epoch int64) plan.Lease {
	return plan.Lease{ID: r.ID, Epoch: epoch, Holder: r.Holder, TTL: r.ttl(), Left: max(0, r.ttl()+grace-r.age)}
}

func (r record) encode() (string, error) {
	b, err := json.Marshal(r)
	return string(b) + "\n", err
}

func readRecord(in io.Reader) (record, error) {
	var r record
	data, err := io.ReadAll(io.LimitReader(in, maxRecord+1))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil || len(data) > maxRecord {
		return r, errRecord
	}
	if r.Format != recordFormat || r.ID == "" || r.ttl() <= 0 || r.ttl() > maxTTL {
		return r, errRecord
	}
	r.Holder = r.Holder.Printable()
	return r, nil
}

// epochDigits is the length of an epoch's name, so that names sort as numbers do.
const epochDigits = 16

func epochName(n int64) string { return fmt.Sprintf("%0*d", epochDigits, n) }

func epochOf(name string) (int64, bool) {
	if len(name) != epochDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(name, 10, 62)
	return int64(n), err == nil && n > 0
}
