package alicloudsim

import (
	"reflect"
	"slices"
	"testing"
)

// Describe and nameOf have to know every kind of thing that an account can hold.
func TestDescribeLeavesNothingOut(t *testing.T) {
	known := []string{"vpcs", "vswitches", "groups", "keys", "instances", "eips", "disks", "policies", "buckets"}
	for f := range reflect.TypeFor[Sim]().Fields() {
		holds := f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Pointer
		if holds && !slices.Contains(known, f.Name) {
			t.Errorf("Describe says nothing of %s; teach it, and then this test", f.Name)
		}
	}
}
