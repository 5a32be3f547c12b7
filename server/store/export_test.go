package store

import "context"

// Occupy keeps the commit loop busy until gate is closed, so that what comes
// meanwhile is gathered into one batch.
func (l *Log) Occupy(gate <-chan struct{}) {
	_ = l.do(context.Background(), func(*txn) error {
		<-gate
		return nil
	})
}

// Plain is the machine's file system without files that can be mapped: a store in
// it keeps all of the index in memory, as mailformds before the index file do.
func Plain() FS { return struct{ FS }{osFS{}} }

// Loaded is how many messages are in memory.
func (l *Log) Loaded() (n int) {
	for _, a := range l.ix.accounts {
		a.mu.RLock()
		for _, m := range a.boxes {
			n += m.msgs.Len()
		}
		a.mu.RUnlock()
	}
	return n
}

// TendIndex does what is done each minute.
func (l *Log) TendIndex() { l.tendIndex(context.Background()) }
