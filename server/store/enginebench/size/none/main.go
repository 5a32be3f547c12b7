// Command none is built to see what nothing adds to a binary.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println(os.Args)
}
