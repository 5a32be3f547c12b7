// Package sshconn makes SSH connections as the person's own ssh would: with
// the agent and the key files, ~/.ssh/config, known_hosts and jump hosts. It
// knows no hosts of mailform and runs no commands.
//
// Where several say something, the order is: the Target (what the spec says),
// MAILFORM_SSH_KEY, the person's configuration file, the machine's, and then the
// defaults of ssh. Nothing in a configuration file makes an unknown host key
// acceptable: StrictHostKeyChecking and the like are not read.
//
// It imports nothing of mailform.
package sshconn
