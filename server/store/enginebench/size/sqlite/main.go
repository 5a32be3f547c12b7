// Command sqlite is built to see what sqlite adds to a binary.
package main

import (
	"fmt"
	"os"

	"database/sql"

	_ "modernc.org/sqlite"
)

func main() {
	db, err := sql.Open("sqlite", os.Args[0]+".db")
	if err == nil {
		_, err = db.Exec("CREATE TABLE x (k)")
	}
	fmt.Println(err)
}
