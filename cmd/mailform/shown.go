package main

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mailform/apply"
	"mailform/plan"
)

// maxShown bounds how many shown plans are kept.
const maxShown = 32

// shownDir is where plans are kept that were shown with their hash, so that
// apply --approve HASH knows what was approved and can tell what moved since.
// It is a cache: without it such a plan is only compared by its hash. "" when
// there is no place for it.
func (a *app) shownDir() string {
	if cache := a.env.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(cache) {
		return filepath.Join(cache, "mailform", "plans")
	}
	if a.env.Home == "" {
		return ""
	}
	return filepath.Join(a.env.Home, ".cache", "mailform", "plans")
}

// keepShown keeps a plan that was shown. Nothing depends on whether it can.
func (a *app) keepShown(p *plan.Plan) {
	dir := a.shownDir()
	if dir == "" || os.MkdirAll(dir, 0o700) != nil {
		return
	}
	if apply.Replace(apply.OS{}, filepath.Join(dir, plan.Hash(p)), plan.Encode(p)) != nil {
		return
	}
	kept, err := os.ReadDir(dir)
	if err != nil || len(kept) <= maxShown {
		return
	}
	age := func(e os.DirEntry) int64 {
		info, err := e.Info()
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(kept, func(x, y os.DirEntry) int { return cmp.Compare(age(x), age(y)) })
	for _, old := range kept[:len(kept)-maxShown] {
		os.Remove(filepath.Join(dir, old.Name()))
	}
}

// shown returns the plan that was shown with that hash, nil when it is not known here.
func (a *app) shown(hash string) *plan.Plan {
	dir := a.shownDir()
	if dir == "" || hash == "" || strings.Trim(hash, "0123456789abcdef") != "" {
		return nil
	}
	p, err := readPlan(filepath.Join(dir, hash))
	if err != nil || plan.Hash(p) != hash {
		return nil
	}
	return p
}
