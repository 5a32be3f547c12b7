package imap

import (
	"github.com/emersion/go-imap/v2"
)

// states says where a command may be used, RFC 9051 3.
type states uint8

const (
	stateEarly    states = 1 << iota // before the login
	stateLoggedIn                    // after it, with no mailbox selected
	stateSelected

	anyState  = stateEarly | stateLoggedIn | stateSelected
	afterward = stateLoggedIn | stateSelected
)

// handler carries out one command.
type handler struct {
	states states
	run    func(*session, *command) error
	// message says that the command takes messages as literals and asks for
	// their octets itself.
	message bool
}

// handlers returns all commands by name.
func handlers() map[string]handler {
	h := map[string]handler{
		"CAPABILITY":   {anyState, (*session).capability, false},
		"NOOP":         {anyState, (*session).noop, false},
		"LOGOUT":       {anyState, (*session).logout, false},
		"ID":           {anyState, (*session).id, false},
		"STARTTLS":     {stateEarly, (*session).startTLS, false},
		"LOGIN":        {stateEarly, (*session).loginCommand, false},
		"AUTHENTICATE": {stateEarly, (*session).authenticate, false},

		"UNAUTHENTICATE": {afterward, (*session).unauthenticate, false},
		"COMPRESS":       {afterward, (*session).compress, false},
		"GETMETADATA":    {afterward, (*session).getMetadata, false},
		"SETMETADATA":    {afterward, (*session).setMetadata, false},
		"GETQUOTA":       {afterward, (*session).getQuota, false},
		"GETQUOTAROOT":   {afterward, (*session).getQuotaRoot, false},
		"SETQUOTA":       {afterward, (*session).setQuota, false},

		"ENABLE":      {afterward, (*session).enable, false},
		"NAMESPACE":   {afterward, (*session).namespace, false},
		"IDLE":        {afterward, (*session).idle, false},
		"NOTIFY":      {afterward, (*session).notify, false},
		"CREATE":      {afterward, (*session).create, false},
		"DELETE":      {afterward, (*session).delete, false},
		"RENAME":      {afterward, (*session).rename, false},
		"SUBSCRIBE":   {afterward, (*session).subscribe, false},
		"UNSUBSCRIBE": {afterward, (*session).unsubscribe, false},
		"LIST":        {afterward, (*session).list, false},
		"LSUB":        {afterward, (*session).lsub, false},
		"STATUS":      {afterward, (*session).statusCommand, false},
		"APPEND":      {afterward, (*session).appendCommand, true},
		"REPLACE":     {stateSelected, (*session).replace, true},
		"UID REPLACE": {stateSelected, (*session).replace, true},
		"SELECT":      {afterward, (*session).selectCommand, false},
		"EXAMINE":     {afterward, (*session).selectCommand, false},

		"CHECK":        {stateSelected, (*session).noop, false},
		"CLOSE":        {stateSelected, (*session).closeCommand, false},
		"UNSELECT":     {stateSelected, (*session).unselectCommand, false},
		"EXPUNGE":      {stateSelected, (*session).expunge, false},
		"CANCELUPDATE": {stateSelected, (*session).cancelUpdate, false},
	}
	for name, run := range map[string]func(*session, *command) error{
		"EXPUNGE": (*session).expunge, "SEARCH": (*session).search, "FETCH": (*session).fetch, "STORE": (*session).storeCommand,
		"SORT": (*session).sort, "THREAD": (*session).thread, "COPY": (*session).copyCommand, "MOVE": (*session).move,
	} {
		h["UID "+name] = handler{stateSelected, run, false}
		if name != "EXPUNGE" {
			h[name] = handler{stateSelected, run, false}
		}
	}
	return h
}

// allowed says whether the session is where a command may be used.
func (s *session) allowed(in states) error {
	now := stateSelected
	switch {
	case s.account == "":
		now = stateEarly
	case s.view == nil:
		now = stateLoggedIn
	}
	switch {
	case in&now != 0:
		return nil
	case now == stateEarly:
		return bad("Log in first")
	case now == stateLoggedIn:
		if in == stateEarly {
			return bad("Already logged in")
		}
		return bad("No mailbox is selected")
	}
	return &imap.Error{Type: imap.StatusResponseTypeBad, Code: imap.ResponseCodeClientBug, Text: "Already logged in"}
}
