// Command pebble is built to see what pebble adds to a binary.
package main

import (
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
)

func main() {
	db, err := pebble.Open(os.Args[0]+".db", nil)
	if err == nil {
		err = db.Set([]byte("k"), []byte("v"), pebble.Sync)
	}
	fmt.Println(err)
}
