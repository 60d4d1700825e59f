"""The words of the design as types. Pure: standard library only, no IO."""
