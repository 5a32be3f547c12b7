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
