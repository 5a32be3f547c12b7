package baddays

import (
	"context"
	"slices"
	"strings"
	"time"
)

// fault is one bad day.
type fault struct {
	id   string // "alicloud/lost"
	what string // for people
	// code is the exit code of the first run of a fault that lasts until somebody
	// does something about it; says are words that its message has to have. 0: the
	// fault passes by itself.
	code int
	says []string
	bend func(*weather)
	// alike, when not nil, takes out of a world's description what may well be another
	// one after such a day.
	alike func([]string) []string
	// cure, when not nil, is what a person does after an apply that ended well, and says
	// what is not as it has to be.
	cure func(context.Context, *day, *Row) error
}

// system is where the fault is, for people.
func (f fault) system() string {
	part, _, _ := strings.Cut(f.id, "/")
	return map[string]string{"alicloud": "Alibaba Cloud", "cloudflare": "Cloudflare", "acme": "CA", "host": "host"}[part]
}

// latency is what each call takes longer on a slow day.
const latency = 3 * time.Second

// lag is for how long what was written is not seen.
const lag = 20 * time.Second

// catalogue are all faults, in the table's order.
func catalogue() []fault {
	return slices.Concat(cloudFaults(), dnsFaults(), caFaults(), hostFaults())
}
