// Package apply executes a plan: it takes the lock, folds the journal, walks
// the graph and reports what happens as events. It decides nothing that is not
// in the plan. It imports plan and specs; providers come in as plan.Provider.
//
// An apply is, in this order: Dir.Open (lock, journal, ledger), Fold (settle what
// an interrupted run left), Observe, plan.Build, Run. Only Run has effects.
//
// What survives a kill at any point rests on four promises of the providers:
//
//   - The class of an error is the truth about its effect: transient, throttled,
//     credentials and spent-token certainly had none; ambiguous is anything sent
//     without a usable answer. Other errors promise nothing and are asked about.
//   - Do with the same token has at most one effect, and Resolve tells Done or
//     NotDone only when it is sure.
//   - When reads of the outside system lag behind its writes, the operation that
//     makes something is followed by a read-only one that waits until it is
//     listed: what a complete run made, the next observation must find.
//   - A token that is remembered for something gone is answered with
//     plan.ErrSpentToken, because the memory of generations is disposable.
//
// A token is derived from the intent and a generation. The generation of an
// address rises with every effect there, so that doing the same again later is
// another intent to the outside system; it does not rise between an effect and
// the end of an interrupted run, so that repeating it is the same intent.
package apply
