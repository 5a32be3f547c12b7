package limits

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestHourly(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).Truncate(time.Minute)
	h := NewHourly(func() time.Time { return now })
	for i := range 3 {
		if ok, _ := h.Take("alice", 3); !ok {
			t.Fatalf("message %d is refused", i+1)
		}
		now = now.Add(10 * time.Minute)
	}
	// The first of them leaves the hour in 30 minutes.
	if ok, wait := h.Take("alice", 3); ok || wait != 30*time.Minute {
		t.Errorf("fourth message: %v, wait %v", ok, wait)
	}
	if wait := h.Wait("alice", 3); wait != 30*time.Minute {
		t.Errorf("Wait says %v", wait)
	}
	if ok, _ := h.Take("bob", 3); !ok {
		t.Error("another account is refused")
	}
	if ok, _ := h.Take("alice", 4); !ok {
		t.Error("refused within a raised limit")
	}
	if _, wait := h.Take("alice", 2); wait != 50*time.Minute {
		t.Errorf("with a lowered limit the wait is %v", wait)
	}
	now = now.Add(30 * time.Minute)
	if ok, _ := h.Take("alice", 4); !ok {
		t.Error("refused when the first has left the hour")
	}
	now = now.Add(-24 * time.Hour) // the clock was wrong
	if ok, wait := h.Take("alice", 4); ok || wait <= 0 {
		t.Errorf("after the clock went back: %v, %v", ok, wait)
	}
}

func TestHourlyForgetsAccounts(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	h := NewHourly(func() time.Time { return now })
	h.maxKept = 10
	for i := range 1000 {
		h.Take(fmt.Sprint(i), 5)
		if len(h.accounts) > 10 {
			t.Fatalf("%d accounts are kept", len(h.accounts))
		}
	}
	h.accounts["busy"] = &window{last: now.Unix() / 60}
	now = now.Add(time.Hour)
	h.Take("busy", 5)
	h.Take("new", 5)
	if h.accounts["busy"] == nil || len(h.accounts) != 2 {
		t.Errorf("%d accounts are kept, want the two of this hour", len(h.accounts))
	}
}

// However takes are spread, no 60 minutes have more than the limit, and waiting
// as long as it says is enough.
func TestHourlyProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		h := NewHourly(func() time.Time { return now })
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		var taken []int64
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30*60).Draw(t, "pause")) * time.Second)
			ok, wait := h.Take("a", limit)
			if !ok {
				now = now.Add(wait)
				if ok, again := h.Take("a", limit); !ok {
					t.Fatalf("waited %v as told, and is to wait %v more", wait, again)
				}
			}
			taken = append(taken, now.Unix()/60)
			recent := 0
			for _, m := range taken {
				if now.Unix()/60-m < 60 {
					recent++
				}
			}
			if recent > limit {
				t.Fatalf("%d within an hour, the limit is %d", recent, limit)
			}
		}
	})
}
