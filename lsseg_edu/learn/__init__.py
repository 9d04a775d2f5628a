"""For learners: quizzes that answer on the page, and checks that say what is not yet right."""

from lsseg_edu.learn.quiz import quiz

__all__ = ["quiz"]
