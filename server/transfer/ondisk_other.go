//go:build !linux

package transfer

// OnDisk is for the machines that mailformd runs on; elsewhere it is only compiled.
func OnDisk(string) error { return nil }
