// Command bbolt is built to see what bbolt adds to a binary.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

func main() {
	db, err := bbolt.Open(os.Args[0]+".db", 0o600, nil)
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("x"))
			if err == nil {
				err = b.Put([]byte("k"), []byte("v"))
			}
			return err
		})
	}
	fmt.Println(err)
}
