// Command hostshim stands in for the system programs of simulated hosts, see
// hostsim.Config.Shim. Tests that make many changes of hosts build it.
package main

import (
	"fmt"
	"os"

	"mailform/providers/host/hostsim/shim"
)

func main() {
	if !shim.Is(os.Args) {
		fmt.Fprintln(os.Stderr, "hostshim: this is no simulated host")
		os.Exit(1)
	}
	os.Exit(shim.Main())
}
