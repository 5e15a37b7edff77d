from hypothesis import settings

settings.register_profile("quiet", deadline=None, max_examples=60)
settings.load_profile("quiet")
