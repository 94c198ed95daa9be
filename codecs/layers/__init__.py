"""Networks, transforms and context models that more than one family of codecs can use. No family is imported here."""
