variable "region" {
  type    = string
  default = "cn-hongkong"
}

variable "instance_type" {
  type    = string
  default = "ecs.g7.large"
}

variable "office_networks" {
  description = "Where people may log in to the machine from"
  type        = list(string)
  default     = ["198.51.100.0/24", "2001:db8:100::/48"]

  validation {
    condition     = length(var.office_networks) > 0
    error_message = "Nobody could log in."
  }
}

variable "default_quota" {
  description = "For people without one of their own"
  type        = string
  default     = "5GiB"
}
