package manifest

import "path/filepath"

// Layout gives every path mailformd uses on a host. Root is "/" on a real
// machine and a private folder on a simulated one.
type Layout struct{ Root string }

func (l Layout) at(p string) string { return filepath.Join("/", l.Root, p) }

// Inside is where a path of the machine really is.
func (l Layout) Inside(p string) string { return l.at(p) }

// ManifestFile is the applied manifest.
func (l Layout) ManifestFile() string { return l.at("/etc/mailform/manifest.json") }

// CredentialsFile holds the Credentials.
func (l Layout) CredentialsFile() string { return l.at("/var/lib/mailform/credentials.json") }

// OwnerFile holds the Owner.
func (l Layout) OwnerFile() string { return l.at("/var/lib/mailform/owner.json") }

// RetainedFile holds the list of Retained mailboxes.
func (l Layout) RetainedFile() string { return l.at("/var/lib/mailform/retained.json") }

// ConfigDir holds the manifest and the keys.
func (l Layout) ConfigDir() string { return l.at("/etc/mailform") }

// ACMEDir holds the ACME accounts' keys.
func (l Layout) ACMEDir() string { return l.at("/etc/mailform/acme") }

// SysusersFile declares the service's user to systemd-sysusers.
func (l Layout) SysusersFile() string { return l.at("/etc/sysusers.d/mailform.conf") }

// MadeFile lists the folders of the system's own that the installation made.
func (l Layout) MadeFile() string { return l.at("/etc/mailform/made.json") }

// RunDir is the service's run-time folder.
func (l Layout) RunDir() string { return l.at("/run/mailform") }

// AgentLock is held by an agent command that changes the host.
func (l Layout) AgentLock() string { return l.at("/run/mailform-agent.lock") }

// LeaseFile holds the Lease; LeaseLock is held while it is changed.
func (l Layout) LeaseFile() string { return l.at("/etc/mailform/lease.json") }
func (l Layout) LeaseLock() string { return l.at("/run/mailform-lease.lock") }

// PasswdFile and GroupFile are the machine's users and groups.
func (l Layout) PasswdFile() string { return l.at("/etc/passwd") }
func (l Layout) GroupFile() string  { return l.at("/etc/group") }

// OSReleaseFile and BootIDFile say what the machine runs and since when.
func (l Layout) OSReleaseFile() string { return l.at("/etc/os-release") }
func (l Layout) BootIDFile() string    { return l.at("/proc/sys/kernel/random/boot_id") }

// EnforceFile says "1" where SELinux is enforcing, selinux(8).
func (l Layout) EnforceFile() string { return l.at("/sys/fs/selinux/enforce") }

// StateDir is the folder that is mailform's alone.
func (l Layout) StateDir() string { return l.at("/var/lib/mailform") }

// MovedStateDir is what StateDir was before its content moved to a data disk.
func (l Layout) MovedStateDir() string { return l.at("/var/lib/mailform.moved") }

// StorageFile says which disk StateDir is on; MovingFile is there while StateDir
// moves to it and keeps the service from starting.
func (l Layout) StorageFile() string { return l.at("/etc/mailform/storage.json") }
func (l Layout) MovingFile() string  { return l.at("/etc/mailform/moving") }

// KeysDir holds the keys of a host with a data disk: TLSDir, DKIMDir, ACMEDir and StoreKeyDir are
// then links to folders of the same names in it.
func (l Layout) KeysDir() string { return l.at("/var/lib/mailform/keys") }

// KeysMovingFile is there while keys move to a data disk or back from it. KeptFile is
// what is publicly known of the keys on a data disk, for while it is not mounted.
func (l Layout) KeysMovingFile() string { return l.at("/etc/mailform/keys-moving.json") }
func (l Layout) KeptFile() string       { return l.at("/etc/mailform/kept.json") }

// DiskDir is where a disk is mounted while it is looked at.
func (l Layout) DiskDir() string { return l.at("/run/mailform-disk") }

// BlockDir, DevDir and MountInfoFile are how the kernel shows disks and mounts.
func (l Layout) BlockDir() string      { return l.at("/sys/block") }
func (l Layout) DevDir() string        { return l.at("/dev") }
func (l Layout) MountInfoFile() string { return l.at("/proc/self/mountinfo") }

// StoreDir holds the mail.
func (l Layout) StoreDir() string { return l.at("/var/lib/mailform/store") }

// SearchDir holds the indexes of words. The mail store leaves it alone, and losing
// it costs the time to read the mail again.
func (l Layout) SearchDir() string { return l.at("/var/lib/mailform/store/search") }

// SummaryDir holds what mail programs ask of all messages at once: envelopes, header
// fields and the like. The mail store leaves it alone, and losing it costs the time
// to read the mail again.
func (l Layout) SummaryDir() string { return l.at("/var/lib/mailform/store/summary") }

// GreylistFile is the daemon's memory of clients that were asked to come back.
// The mail store leaves it alone, and losing it only delays some mail.
func (l Layout) GreylistFile() string { return l.at("/var/lib/mailform/store/greylist") }

// LoginKeysFile is what the daemon has learned at logins: keys for SCRAM. The mail
// store leaves it alone, and losing it only makes clients log in once without SCRAM.
func (l Layout) LoginKeysFile() string { return l.at("/var/lib/mailform/store/login-keys") }

// AgesFile is the time by which mail is deleted for its age. Losing it delays that by a day.
func (l Layout) AgesFile() string { return l.at("/var/lib/mailform/store/ages.json") }

// MonitorFile is what the daemon has told about itself. Losing it only repeats a mail.
func (l Layout) MonitorFile() string { return l.at("/var/lib/mailform/store/monitor.json") }

// StoreKeyDir holds StoreKeyFile, the storage key: 32 octets that wrap the keyring of a
// store whose mail is encrypted. StoreKeySavedFile has the fingerprint of the one that
// somebody has taken a copy of.
func (l Layout) StoreKeyDir() string       { return l.at("/etc/mailform/store") }
func (l Layout) StoreKeyFile() string      { return filepath.Join(l.StoreKeyDir(), "root.key") }
func (l Layout) StoreKeySavedFile() string { return filepath.Join(l.StoreKeyDir(), "saved") }

// TLSDir holds one folder per certificate name: key.pem, chain.pem, meta.json.
func (l Layout) TLSDir() string { return l.at("/etc/mailform/tls") }

// DKIMDir holds private signing keys.
func (l Layout) DKIMDir() string { return l.at("/etc/mailform/dkim") }

// DKIMKey is the PKCS #8 PEM file of a signing key.
func (l Layout) DKIMKey(domain, selector string) string {
	return filepath.Join(l.DKIMDir(), domain, selector+".pem")
}

// DKIMUse is what is known of the use of a signing key; see KeyUse.
func (l Layout) DKIMUse(domain, selector string) string {
	return filepath.Join(l.DKIMDir(), domain, selector+".json")
}

// CertKey and CertChain are the files of the certificate with that name.
func (l Layout) CertKey(name string) string   { return filepath.Join(l.TLSDir(), name, "key.pem") }
func (l Layout) CertChain(name string) string { return filepath.Join(l.TLSDir(), name, "chain.pem") }

// ACMEAccountKey is the ACME account's private key for a directory (by its hash).
func (l Layout) ACMEAccountKey(directoryHash string) string {
	return filepath.Join(l.ACMEDir(), directoryHash+".pem")
}

// VersionsDir holds one mailformd per SHA-256; Binary is the link to the newest one.
func (l Layout) VersionsDir() string { return l.at("/usr/local/lib/mailform") }

// VersionDir and VersionBinary are one version's place, by its SHA-256.
func (l Layout) VersionDir(sha string) string { return filepath.Join(l.VersionsDir(), sha) }
func (l Layout) VersionBinary(sha string) string {
	return filepath.Join(l.VersionDir(sha), "mailformd")
}

// VersionLink is what Binary points at: relative, so that it holds under any root.
func (l Layout) VersionLink(sha string) string { return "../lib/mailform/" + sha + "/mailformd" }

// SSHConfig is the SSH server's, SSHDropIn our file that it reads, and FirewallFile
// the host's own firewall.
func (l Layout) SSHConfig() string    { return l.at("/etc/ssh/sshd_config") }
func (l Layout) SSHDropIn() string    { return l.at("/etc/ssh/sshd_config.d/10-mailform.conf") }
func (l Layout) FirewallFile() string { return l.at("/etc/mailform/firewall.nft") }

// VersionFile says of one version what manifest.Version does.
func (l Layout) VersionFile(sha string) string {
	return filepath.Join(l.VersionDir(sha), "version.json")
}

// ActiveLink points at the version that serves, by its digest alone; ActiveBinary
// is what the service runs. Binary, which agent commands run, may be newer.
func (l Layout) ActiveLink() string   { return l.at("/usr/local/lib/mailform/active") }
func (l Layout) ActiveBinary() string { return filepath.Join(l.ActiveLink(), "mailformd") }

// TrialDir holds what a change that is not confirmed yet has replaced; TrialFile
// is the record of it, written last. RevertedFile is a Reverted.
func (l Layout) TrialDir() string     { return l.at("/etc/mailform/trial") }
func (l Layout) TrialFile() string    { return l.at("/etc/mailform/trial/record.json") }
func (l Layout) RevertedFile() string { return l.at("/etc/mailform/reverted.json") }

// UploadPrefix begins the path of a mailformd that is being uploaded.
func (l Layout) UploadPrefix() string { return filepath.Join(l.VersionsDir(), ".upload-") }

// Binary is where the newest mailformd is found, which agent commands run.
func (l Layout) Binary() string { return l.at("/usr/local/sbin/mailformd") }

// UnitDir is where unit files go.
func (l Layout) UnitDir() string { return l.at("/etc/systemd/system") }

// ControlSocket is the running daemon's local control socket.
func (l Layout) ControlSocket() string { return l.at("/run/mailform/control.sock") }

// JournalSocket is where systemd's journal takes entries in its native protocol.
func (l Layout) JournalSocket() string { return l.at("/run/systemd/journal/socket") }
