// Package apply executes a plan: it takes the lock, folds the journal, walks
// the graph and reports what happens as events. It decides nothing that is not
// in the plan. It imports plan and specs; providers come in as plan.Provider.
package apply
