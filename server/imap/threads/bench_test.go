package threads

import "testing"

// BenchmarkReferences makes threads of a mailbox: half of its messages answer one of
// those before them, which comes in the order of dates but for some.
func BenchmarkReferences(b *testing.B) {
	const n = 1_000_000
	msgs := make([]Message, n)
	for i := range msgs {
		msgs[i] = Message{Num: uint32(i + 1), ID: uint64(i)*0x9e3779b97f4a7c15 | 1, Sent: int64(i*60 - i%7*300), Subject: uint64(i/4)*0xc2b2ae3d27d4eb4f | 1}
		if i%2 == 1 {
			msgs[i].Refs, msgs[i].Reply = []uint64{uint64(i-i%8)*0x9e3779b97f4a7c15 | 1}, true
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		References(msgs)
	}
}
