variable "project" {
  description = "Folder of the project, as an absolute path."
  type        = string
  nullable    = false
}
