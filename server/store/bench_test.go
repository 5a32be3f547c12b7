package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailform/server/store"
)

// BenchmarkDeliver measures durable deliveries of 4 KiB from n writers at once,
// each to a mailbox of its own or all to one.
func BenchmarkDeliver(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		for _, shared := range []bool{false, true} {
			b.Run(fmt.Sprintf("writers=%d/shared=%v", writers, shared), func(b *testing.B) {
				ctx := context.Background()
				l, err := store.Open(b.TempDir(), store.Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer l.Close()
				text := strings.Repeat("0123456789abcde\n", 256)
				for i := range writers {
					if err := l.EnsureAccount(ctx, account(i, shared), 0); err != nil {
						b.Fatal(err)
					}
				}
				each(b, writers, func(i int) error {
					_, err := l.Deliver(ctx, store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)),
						Targets: []store.Target{{Account: account(i, shared), Mailbox: "INBOX", Prefix: []byte(prefix)}}})
					return err
				})
			})
		}
	}
}

func account(i int, shared bool) string {
	if shared {
		i = 0
	}
	return fmt.Sprintf("a%d@example.org", i)
}

var prefix = strings.Repeat("Received: from there by here\r\n", 14)

// each runs f b.N times on n goroutines.
func each(b *testing.B, n int, f func(i int) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// BenchmarkFloor is what the disk allows: the same octets appended to one file,
// with fdatasync shared by those who wait.
func BenchmarkFloor(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			octets := make([]byte, 4096+len(prefix)+250)
			waiting := make(chan chan error)
			go func() {
				var buf []byte
				var batch []chan error
				for first := range waiting {
					batch, buf = append(batch[:0], first), append(buf[:0], octets...)
				gather:
					for {
						select {
						case c, ok := <-waiting:
							if !ok {
								break gather
							}
							batch, buf = append(batch, c), append(buf, octets...)
						default:
							break gather
						}
					}
					_, err := f.Write(buf)
					if err == nil {
						err = unix.Fdatasync(int(f.Fd()))
					}
					for _, c := range batch {
						c <- err
					}
				}
			}()
			each(b, writers, func(int) error {
				c := make(chan error, 1)
				waiting <- c
				return <-c
			})
			close(waiting)
		})
	}
}

// BenchmarkOpen measures opening a mailbox of many messages.
func BenchmarkOpen(b *testing.B) {
	ctx := context.Background()
	l, err := store.Open(b.TempDir(), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const n = 100_000
	fill(b, l, "a@b", n)
	b.ResetTimer()
	for range b.N {
		_, w, err := l.Open(ctx, "a@b", "INBOX")
		if err != nil {
			b.Fatal(err)
		}
		w.Close()
	}
}

// BenchmarkStart opens a store of a million messages in a thousand accounts, and
// says what the index takes of memory.
func BenchmarkStart(b *testing.B) {
	const accounts, each = 1000, 1000
	ctx := context.Background()
	dir := b.TempDir()
	l, err := store.Open(dir, store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	targets := make([]store.Target, accounts)
	for i := range targets {
		targets[i] = store.Target{Account: account(i, false), Mailbox: "INBOX", Prefix: fmt.Appendf(nil, "Delivered-To: %s\r\n", account(i, false)), Flags: []string{`\Seen`}}
		if err := l.EnsureAccount(ctx, targets[i].Account, 0); err != nil {
			b.Fatal(err)
		}
	}
	for i := range each {
		if _, err := l.Deliver(ctx, store.Delivery{Body: strings.NewReader(fmt.Sprint(i)), Size: -1, Targets: targets}); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for range b.N {
		if l, err = store.Open(dir, store.Options{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		l = nil
		b.StartTimer()
	}
	heap := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	b.ReportMetric(heap/(1<<20), "MiB")
	b.ReportMetric(heap/(accounts*each), "B/message")
}

// BenchmarkSelect opens a store with one mailbox of many messages, as a start does,
// and selects that mailbox: cold, when it is not in memory and no page of the index
// file is mapped any more, and warm, when somebody else has it open. The floor of the
// first is a read of the index file, which the system has cached. Heap is what the open
// mailbox takes.
func BenchmarkSelect(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("messages=%d", n), func(b *testing.B) {
			ctx := context.Background()
			dir := b.TempDir()
			l, err := store.Open(dir, store.Options{ReserveBytes: -1})
			if err != nil {
				b.Fatal(err)
			}
			gather(b, l, "a@b", n)
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			var m runtime.MemStats
			heap := func() float64 {
				runtime.GC()
				runtime.ReadMemStats(&m)
				return float64(m.HeapAlloc)
			}
			sums := map[string]time.Duration{}
			timed := func(what string, f func() error) {
				begun := time.Now()
				if err := f(); err != nil {
					b.Fatal(err)
				}
				sums[what] += time.Since(begun)
			}
			timed("start", func() error {
				l, err = store.Open(dir, store.Options{ReserveBytes: -1, IdleMessages: 1})
				return err
			})
			before := heap()
			var open float64
			buf := make([]byte, 1<<20)
			rounds := 0
			for ; b.Loop(); rounds++ {
				l.TendIndex()
				var snap store.Snapshot
				var first, second store.Watch
				timed("cold", func() error {
					snap, first, err = l.Open(ctx, "a@b", "INBOX")
					return err
				})
				timed("warm", func() error {
					snap, second, err = l.Open(ctx, "a@b", "INBOX")
					return err
				})
				if snap.Messages.Len() != n || snap.Messages.FirstWithout(`\Seen`) != 1 {
					b.Fatal(snap.Messages.Len(), snap.Messages.FirstWithout(`\Seen`))
				}
				second.Close()
				snap = store.Snapshot{}
				if rounds == 0 {
					open = heap() - before
				}
				first.Close()
				timed("floor", func() error {
					f, err := os.Open(filepath.Join(dir, "index.db"))
					for err == nil {
						_, err = f.Read(buf)
					}
					if errors.Is(err, io.EOF) {
						err = f.Close()
					}
					return err
				})
			}
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			ms := func(what string) float64 { return float64(sums[what].Microseconds()) / 1e3 / float64(rounds) }
			b.ReportMetric(float64(sums["start"].Milliseconds()), "start-ms")
			b.ReportMetric(ms("cold"), "cold-ms")
			b.ReportMetric(ms("warm"), "warm-ms")
			b.ReportMetric(ms("floor"), "floor-ms")
			b.ReportMetric(ms("cold")/ms("floor"), "cold/floor")
			b.ReportMetric(open/float64(n), "heap-B/message")
		})
	}
}

// gather imports n messages into an INBOX, of different sizes and flags.
func gather(b *testing.B, l *store.Log, account string, n int) {
	ctx := context.Background()
	if err := l.EnsureAccount(ctx, account, 0); err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat("0123456789abcde\n", 64)
	date := time.Unix(1_600_000_000, 0)
	for from := 0; from < n; from += 5000 {
		list := make([]store.Incoming, min(5000, n-from))
		for i := range list {
			k := from + i
			date = date.Add(time.Duration(k*7919%600) * time.Second)
			list[i] = store.Incoming{Mailbox: "INBOX", Body: strings.NewReader(text[k*7919%1000:]), Size: -1, InternalDate: date, Flags: [][]string{{`\Seen`}, nil, {`\Answered`, `\Seen`}}[k*k%3]}
		}
		if _, err := l.Import(ctx, account, list); err != nil {
			b.Fatal(err)
		}
	}
}

// fill has n messages in an INBOX.
func fill(b *testing.B, l *store.Log, account string, n int) {
	ctx := context.Background()
	if err := l.EnsureAccount(ctx, account, 0); err != nil {
		b.Fatal(err)
	}
	if _, err := l.Deliver(ctx, store.Delivery{Body: strings.NewReader("x"), Size: 1, Targets: []store.Target{{Account: account, Mailbox: "INBOX"}}}); err != nil {
		b.Fatal(err)
	}
	for have := 1; have < n; have *= 2 {
		uids := make([]store.UID, min(have, n-have))
		for i := range uids {
			uids[i] = store.UID(i + 1)
		}
		if _, _, _, err := l.Copy(ctx, account, store.Named("INBOX"), uids, store.Named("INBOX")); err != nil {
			b.Fatal(err)
		}
	}
}
