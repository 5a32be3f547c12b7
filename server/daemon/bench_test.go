package daemon

import (
	"strings"
	"sync"
	"testing"
)

// BenchmarkDeliver is SMTP to mailbox, durable: 20 sessions of 4 KiB messages.
func BenchmarkDeliver(b *testing.B) {
	h := newHost(b)
	h.start()
	text := "From: x@sender.example\r\nSubject: bench\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 57)
	const sessions = 20
	work := make(chan struct{}, sessions)
	var wg sync.WaitGroup
	for range sessions {
		k := h.dialService("smtp")
		k.do("", "220")
		k.do("EHLO x", "250")
		wg.Go(func() {
			for range work {
				k.message("x@sender.example", text, "alice@example.com")
			}
		})
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
}
